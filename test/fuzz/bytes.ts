import { crc32 } from '../../lib/core/checksum.js';

/** A generator that gives the same numbers for the same seed on every machine. */
export function numbers(seed: number): (below: number) => number {
  let x = seed >>> 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/**
 * Copies of the seeds with a few bytes, words or 64-bit values changed where the seed is not zero; `reseal` makes checksums right
 * again on every second copy, so that mutations get past them.
 */
export function* mutations(
  seeds: readonly Uint8Array[],
  iterations: number,
  seed: number,
  reseal?: (bytes: Uint8Array) => void,
): Generator<Uint8Array> {
  const random = numbers(seed);
  const used = seeds.map((b) => {
    const out: number[] = [];
    for (let at = 0; at < b.length; at += 8) if (b.subarray(at, at + 8).some((x) => x !== 0)) out.push(at);
    return out;
  });
  for (let i = 0; i < iterations; i++) {
    const which = random(seeds.length);
    const copy = seeds[which]!.slice();
    const view = new DataView(copy.buffer);
    for (let k = 1 + random(5); k > 0; k--) {
      const at = used[which]![random(used[which]!.length)]! + random(8);
      const value = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, random(256), random(65536)][random(7)]!;
      if (random(2) === 0 || at + 4 > copy.length) copy[at] = value & 255;
      else view.setUint32(at, value, true);
    }
    if (reseal !== undefined && random(2) === 0) reseal(copy);
    yield copy;
  }
}

/** Recomputes the checksums of a GPT with 512-byte sectors and its table at sector 2. */
export function resealGpt(bytes: Uint8Array): void {
  const v = new DataView(bytes.buffer);
  const count = Math.min(v.getUint32(512 + 80, true), 1024);
  const size = Math.min(v.getUint32(512 + 84, true), 512);
  if (1024 + count * size <= bytes.length) v.setUint32(512 + 88, crc32(bytes.subarray(1024, 1024 + count * size)), true);
  v.setUint32(512 + 16, 0, true);
  v.setUint32(512 + 16, crc32(bytes.subarray(512, 512 + 92)), true);
}
