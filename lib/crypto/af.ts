import { randomBytes } from 'node:crypto';
import { hash } from './sector.js';

/** Anti-forensic splitter of LUKS (TKS1): a key spread over `stripes` blocks of its own length. */
export function afMerge(material: Uint8Array, keyBytes: number, stripes: number, hashName: string): Uint8Array {
  const d = new Uint8Array(keyBytes);
  for (let s = 0; s < stripes - 1; s++) {
    for (let i = 0; i < keyBytes; i++) d[i] = d[i]! ^ material[s * keyBytes + i]!;
    diffuse(d, hashName);
  }
  for (let i = 0; i < keyBytes; i++) d[i] = d[i]! ^ material[(stripes - 1) * keyBytes + i]!;
  return d;
}

export function afSplit(key: Uint8Array, stripes: number, hashName: string): Uint8Array {
  const n = key.length;
  const out = new Uint8Array(n * stripes);
  out.set(randomBytes(n * (stripes - 1)));
  const d = new Uint8Array(n);
  for (let s = 0; s < stripes - 1; s++) {
    for (let i = 0; i < n; i++) d[i] = d[i]! ^ out[s * n + i]!;
    diffuse(d, hashName);
  }
  for (let i = 0; i < n; i++) out[(stripes - 1) * n + i] = d[i]! ^ key[i]!;
  return out;
}

/** Replaces each digest-sized block by the hash of its number and itself. */
function diffuse(block: Uint8Array, hashName: string): void {
  let size = 0;
  for (let at = 0, n = 0; at < block.length; at += size, n++) {
    size = size === 0 ? hash(hashName, new Uint8Array(0)).length : size;
    const part = block.subarray(at, Math.min(block.length, at + size));
    const input = new Uint8Array(4 + part.length);
    new DataView(input.buffer).setUint32(0, n);
    input.set(part, 4);
    part.set(hash(hashName, input).subarray(0, part.length));
  }
}
