import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockPool, CachedSource } from '../../lib/block/cache.js';
import { MemorySource } from '../../lib/block/memory.js';
import { Overlay } from '../../lib/block/overlay.js';
import { type BlockSource, mapAll, readAt } from '../../lib/block/source.js';
import { Concat, Padded, Striped, Window, ZeroSource } from '../../lib/block/window.js';
import { GuestError } from '../../lib/core/errors.js';

const bytes = (n: number, seed = 1) => Uint8Array.from({ length: n }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 255);
const range = (size: number) => fc.tuple(fc.nat(size), fc.nat(size)).map(([a, b]) => [Math.min(a, b), Math.abs(a - b)] as const);

/** Any read gives the model's bytes; anything outside throws a GuestError; the runs of map add up. */
function behavesAs(source: BlockSource, model: Uint8Array): void {
  fc.assert(
    fc.property(range(model.length), ([offset, length]) => {
      expect(Buffer.compare(readAt(source, offset, length), model.subarray(offset, offset + length))).toBe(0);
      if (length === 0) return;
      let sum = 0;
      for (const r of mapAll(source, offset, length)) sum += r.length;
      expect(sum).toBe(length);
    }),
    { numRuns: 200, seed: 3 },
  );
  for (const [offset, length] of [
    [model.length, 1],
    [-1, 1],
    [0, model.length + 1],
    [Number.NaN, 1],
    [2 ** 60, 1],
  ] as const)
    expect(() => source.read(new Uint8Array(length), offset)).toThrow(GuestError);
}

describe('sources stacked on sources', () => {
  const a = bytes(10_000, 1);
  const b = bytes(7_001, 2);
  it('a window', () => behavesAs(new Window(new MemorySource(a), 1234, 5000), a.subarray(1234, 6234)));
  it('a window that leaves its source is refused', () => {
    expect(() => new Window(new MemorySource(a), 9_000, 1_001)).toThrow(GuestError);
  });
  it('parts one after another', () =>
    behavesAs(
      new Concat([new MemorySource(a), new MemorySource(b), new ZeroSource(100)], 'c'),
      Uint8Array.from([...a, ...b, ...new Uint8Array(100)]),
    ));
  it('a source padded with zeroes', () =>
    behavesAs(new Padded(new MemorySource(b), 9000), Uint8Array.from([...b, ...new Uint8Array(1999)])));
  it('a source cut short', () => behavesAs(new Padded(new MemorySource(b), 5000), b.subarray(0, 5000)));
  it('stripes over three parts', () => {
    const parts = [0, 1, 2].map((i) => bytes(4096, i));
    const model = new Uint8Array(3 * 4096);
    for (let chunk = 0; chunk < 24; chunk++)
      model.set(parts[chunk % 3]!.subarray(Math.floor(chunk / 3) * 512, Math.floor(chunk / 3) * 512 + 512), chunk * 512);
    behavesAs(
      new Striped(
        parts.map((p) => new MemorySource(p)),
        512,
        's',
      ),
      model,
    );
  });
  it('a cache of blocks, with reads that pass it by', () => {
    const cached = new CachedSource(new MemorySource(a), { blockSize: 512, pool: new BlockPool(2048), bypass: 3000 });
    behavesAs(cached, a);
    expect(Buffer.compare(cached.view(500, 30), a.subarray(500, 530))).toBe(0);
  });
});

it('many sources share one pool, and never more than its bound is held', () => {
  const pool = new BlockPool(10_000);
  const models = [1, 2, 3].map((i) => bytes(20_000, i));
  const cached = models.map((m) => new CachedSource(new MemorySource(m), { blockSize: 1024, pool }));
  fc.assert(
    fc.property(fc.nat(2), fc.nat(19_990), (which, at) => {
      expect(Buffer.compare(readAt(cached[which]!, at, 10), models[which]!.subarray(at, at + 10))).toBe(0);
      expect(pool.bytes).toBeLessThanOrEqual(10_000);
    }),
    { numRuns: 500, seed: 6 },
  );
  expect(pool.bytes).toBeGreaterThan(8000);
  for (const c of cached) c.close();
  expect(pool.bytes).toBe(0);
});

it('an overlay reads as a copy that was written to, whether its blocks are in memory or spilled to a file', () => {
  for (const memoryBytes of [1 << 20, 8192, 0])
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(39_999), fc.uint8Array({ minLength: 1, maxLength: 6000 }), fc.boolean()), { maxLength: 12 }),
        (writes) => {
          const below = bytes(40_000, 9);
          const model = Uint8Array.from(below);
          const overlay = new Overlay(new MemorySource(below), { memoryBytes });
          for (const [at, data, zero] of writes) {
            const part = data.subarray(0, Math.min(data.length, 40_000 - at));
            if (zero) {
              overlay.zero(at, part.length);
              model.fill(0, at, at + part.length);
            } else {
              overlay.write(part, at);
              model.set(part, at);
            }
          }
          expect(Buffer.compare(readAt(overlay, 0, 40_000), model)).toBe(0);
          expect(Buffer.compare(below, bytes(40_000, 9))).toBe(0);
          overlay.close();
        },
      ),
      { numRuns: 60, seed: 4 },
    );
});

it('an overlay with a ceiling says no-space instead of growing without end', () => {
  const overlay = new Overlay(new MemorySource(1 << 20), { memoryBytes: 0, maxBytes: 65536 });
  expect(() => {
    for (let at = 0; at < 1 << 20; at += 4096) overlay.write(new Uint8Array(4096).fill(1), at);
  }).toThrow(/more than 65536 bytes changed/);
  overlay.close();
});
