import { MemorySource } from '../../lib/block/memory.js';
import { GuestError } from '../../lib/core/errors.js';
import type { OpenContext } from '../../lib/image/format.js';
import { createQcow2 } from '../../lib/image/qcow2/create.js';
import { Qcow2Image, WritableQcow2Image } from '../../lib/image/qcow2/index.js';

const SIZE = 1 << 20;
const refused: OpenContext['openReference'] = () => {
  throw new GuestError('denied', 'nothing may be referred to');
};

function random(seed: number): () => number {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x;
  };
}

/** Small images with every structure: snapshots, bitmaps, compressed and zero clusters. */
function seeds(): Uint8Array[] {
  return [
    { cluster_size: '512' },
    { cluster_size: '4k' },
    { cluster_size: '16k', extended_l2: 'on' },
    { cluster_size: '4k', refcount_bits: '1' },
    { cluster_size: '4k', compat: '0.10' },
    { cluster_size: '4k', compression_type: 'zstd', lazy_refcounts: 'on' },
  ].map((settings: Record<string, string>) => {
    const file = new MemorySource(0);
    createQcow2(file, { size: SIZE, settings }, { createSibling: () => new MemorySource(0) });
    const image = new WritableQcow2Image(file, { writable: true, openReference: refused });
    image.write(new Uint8Array(50_000).fill(1), 1000);
    image.writeCompressed(new Uint8Array(image.clusterSize).fill(2), image.clusterSize * 20);
    image.zero(0, image.clusterSize);
    if (settings['refcount_bits'] === undefined) image.createSnapshot('s');
    if (settings['compat'] === undefined) image.addBitmap('b');
    image.write(new Uint8Array(9000).fill(3), 2000);
    image.close();
    return file.bytes.slice();
  });
}

/** Everything a caller may do to an image; only GuestErrors may come out. */
function exercise(bytes: Uint8Array, r: () => number): void {
  const step = (body: () => void) => {
    try {
      body();
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'internal') throw e;
    }
  };
  step(() => {
    const image = new Qcow2Image(new MemorySource(bytes), { writable: false, openReference: refused, forCheck: r() % 2 === 0 });
    step(() => void image.describe());
    const b = new Uint8Array(65536);
    for (let at = 0; at < Math.min(image.size, 2 * SIZE); at += b.length)
      step(() => {
        const n = Math.min(b.length, image.size - at);
        image.read(b.subarray(0, n), at);
        image.map(at, n);
        image.extent(at, n);
      });
    step(() => void image.check());
    step(() => {
      for (const s of image.snapshots) image.openSnapshot(s.id).read(b.subarray(0, 4096), 0);
    });
    step(() => {
      for (const x of image.bitmaps) image.readBitmap(x.name);
    });
    image.close();
  });
  if (r() % 2 === 0)
    step(() => {
      const image = new WritableQcow2Image(new MemorySource(bytes.slice()), {
        writable: true,
        openReference: refused,
        forCheck: r() % 2 === 0,
      });
      image.barriers = false;
      step(() => image.write(new Uint8Array(5000), r() % Math.max(1, Math.min(image.size, SIZE) - 5000)));
      step(() => image.zero(4096, 30_000));
      step(() => image.discard(0, 100_000));
      if (r() % 4 === 0) step(() => void image.createSnapshot('t'));
      if (r() % 4 === 0) step(() => void image.repair('all'));
      step(() => image.flush());
      step(() => image.close());
    });
}

/** Mutates metadata of small images.  Throws on anything but a GuestError, and on one mutation that takes seconds. */
export function fuzz(iterations: number, seed: number): void {
  const r = random(seed);
  const images = seeds();
  for (let i = 0; i < iterations; i++) {
    const bytes = images[i % images.length]!.slice();
    const count = 1 + (r() % 4);
    for (let k = 0; k < count; k++) {
      // Half of the changes hit the header, the others any byte that is not zero, which is mostly metadata.
      let at = r() % (r() % 2 === 0 ? 600 : bytes.length);
      for (let tries = 0; tries < 200 && bytes[at] === 0; tries++) at = (at + 1) % bytes.length;
      bytes[at] = r() % 3 === 0 ? 255 : r() & 255;
    }
    const before = Date.now();
    try {
      exercise(r() % 20 === 0 ? bytes.subarray(0, r() % bytes.length) : bytes, r);
    } catch (e) {
      throw new Error(`qcow2 fuzz: iteration ${i}, seed ${seed}`, { cause: e });
    }
    if (Date.now() - before > 4000) throw new Error(`qcow2 fuzz: iteration ${i}, seed ${seed} took ${Date.now() - before} ms`);
  }
}
