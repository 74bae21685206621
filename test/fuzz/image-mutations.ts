import { MemorySource } from '../../lib/block/memory.js';
import { isWritable } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import type { ImageFormat } from '../../lib/image/format.js';
import { seeded } from '../conformance/image.js';

export interface Seed {
  readonly bytes: Uint8Array;
  /** Ranges of metadata, where mutations count. */
  readonly hot: readonly (readonly [offset: number, length: number])[];
  /** Makes checksums right again, so that mutations get past them. */
  readonly repair?: (bytes: Uint8Array) => void;
}

/** An empty image made by the format itself, with a few blocks written. */
export function seedImage(
  format: ImageFormat,
  size: number,
  settings: Readonly<Record<string, string>> = {},
  siblings: Map<string, MemorySource> = new Map(),
): Uint8Array {
  const file = new MemorySource(0);
  format.create!(
    file,
    { size, settings },
    {
      path: 'disk.img',
      createSibling: (name) => {
        const s = new MemorySource(0);
        siblings.set(name, s);
        return s;
      },
    },
  );
  const image = format.open(file, {
    writable: true,
    openReference: (r) => siblings.get(r.name)!,
  });
  if (isWritable(image)) {
    image.write(new Uint8Array(3000).fill(0x5a), 1000);
    image.write(new Uint8Array(600).fill(0x77), Math.floor(image.size / 2));
    image.flush();
  }
  image.close();
  return file.bytes.slice();
}

const MAX_MILLISECONDS = 4000;

/** Mutates the seeds; anything but a GuestError, or a mutation that takes seconds, is thrown. */
export function fuzzImages(format: ImageFormat, seeds: readonly Seed[], iterations: number, seed: number): void {
  const random = seeded(seed);
  for (let i = 0; i < iterations; i++) {
    const s = seeds[random(seeds.length)]!;
    let bytes = s.bytes.slice();
    const changes: string[] = [];
    for (let k = 1 + random(4); k > 0; k--) {
      const [start, length] = s.hot[random(s.hot.length)]!;
      const at = start + random(length);
      const values = [0, 0xff, 1, 0x7f, 0x80, random(256)];
      for (let w = [1, 1, 2, 4, 8][random(5)]!, v = values[random(values.length)]!, o = at; w > 0 && o < bytes.length; w--, o++) {
        bytes[o] = v;
        changes.push(`${o}=${v}`);
      }
    }
    if (s.repair !== undefined && random(4) > 0) s.repair(bytes);
    if (random(8) === 0) {
      bytes = bytes.slice(0, random(bytes.length));
      changes.push(`cut to ${bytes.length}`);
    }
    const before = performance.now();
    try {
      exercise(format, bytes, random);
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'internal')
        throw new Error(`${format.name}, seed ${seed}, mutation ${i} (${changes.join(' ')}): ${e}`, { cause: e });
    }
    const took = performance.now() - before;
    if (took > MAX_MILLISECONDS)
      throw new Error(`${format.name}, seed ${seed}, mutation ${i} (${changes.join(' ')}) took ${took} ms`);
  }
}

function exercise(format: ImageFormat, bytes: Uint8Array, random: (below: number) => number): void {
  const file = new MemorySource(bytes);
  format.probe(bytes.subarray(0, 65536), file);
  const image = format.open(file, {
    writable: random(3) === 0,
    noBacking: random(2) === 0,
    openReference: (r) => {
      if (r.role === 'backing') throw new GuestError('not-found', `${r.name}: not here`);
      return new MemorySource(bytes.slice(0, 4096));
    },
  });
  const attempts = [
    () => image.describe(),
    () => image.check?.(),
    ...[0, 1 << 16, Math.max(0, Math.floor(image.size / 2)), Math.max(0, image.size - 5000)].flatMap((at) => {
      const n = Math.max(0, Math.min(5000, image.size - at));
      return [
        () => image.read(new Uint8Array(n), at),
        () => n > 0 && image.map(at, image.size - at),
        () => n > 0 && image.extent(at, image.size - at),
        () => isWritable(image) && image.write(new Uint8Array(n).fill(3), at),
        () => isWritable(image) && image.zero(at, n),
      ];
    }),
    () => isWritable(image) && image.flush(),
    () => image.close(),
  ];
  for (const attempt of attempts)
    try {
      attempt();
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'internal') throw e;
    }
}
