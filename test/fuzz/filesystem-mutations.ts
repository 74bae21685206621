import { MemorySource } from '../../lib/block/memory.js';
import { Overlay } from '../../lib/block/overlay.js';
import { isZero } from '../../lib/core/bytes.js';
import { GuestError } from '../../lib/core/errors.js';
import type { FileSystemDriver } from '../../lib/filesystem/driver.js';
import { walkAll } from '../conformance/filesystem.js';

const MAX_MILLISECONDS = 4000;
const SECTOR = 512;
/** Sectors that count as the front of an image, where the structures are that all else hangs from. */
const FRONT = 200;

/** A generator that gives the same numbers for the same seed on every machine. */
function numbers(seed: number): (below: number) => number {
  let x = seed >>> 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** Changes bytes of images and asks everything of what then opens; foreign exceptions and long times are thrown. */
export function fuzzFilesystem(driver: FileSystemDriver, images: readonly Uint8Array[], iterations: number, seed: number): void {
  const random = numbers(seed);
  const buffer = new Uint8Array(16384);
  const used = images.map((b) => {
    const out: number[] = [];
    for (let at = 0; at + SECTOR <= b.length; at += SECTOR) if (!isZero(b.subarray(at, at + SECTOR))) out.push(at);
    return out;
  });
  for (let i = 0; i < iterations; i++) {
    const which = random(images.length);
    const sectors = used[which]!;
    const disk = new Overlay(new MemorySource(images[which]!, `image ${which}`));
    const changes: string[] = [];
    for (let k = 1 + random(5); k > 0; k--) {
      const near = random(3) > 0 ? Math.min(FRONT, sectors.length) : sectors.length;
      const width = [1, 2, 4][random(3)]!;
      const at = sectors[random(near)]! + random(SECTOR / width) * width;
      const value = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, random(256), random(65536), random(0xffffffff)][random(8)]!;
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, value, true);
      disk.write(bytes.subarray(0, width), at);
      changes.push(`${at.toString(16)}=${value.toString(16)}/${width}`);
    }
    const what = `${driver.name} image ${which}, seed ${seed}, mutation ${i}: ${changes.join(' ')}`;
    const start = performance.now();
    try {
      driver.probe(disk);
      walkAll(
        () => {
          const fs = driver.open(disk);
          fs.usage();
          return fs.root;
        },
        buffer,
        400,
      );
    } catch (e) {
      if (!(e instanceof GuestError)) throw new Error(`${what}: ${e}`, { cause: e });
    }
    const took = performance.now() - start;
    if (took > MAX_MILLISECONDS) throw new Error(`${what}: took ${Math.round(took)} ms`);
    disk.close();
  }
}
