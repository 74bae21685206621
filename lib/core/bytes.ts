/** Byte helpers shared by all layers. */

/** True when every byte of `b` is zero. */
export function isZero(b: Uint8Array): boolean {
  const n = b.byteLength;
  let i = 0;
  // Word-wise over the aligned middle: several times faster than bytes.
  const lead = Math.min(n, (8 - (b.byteOffset & 7)) & 7);
  for (; i < lead; i++) if (b[i] !== 0) return false;
  const words = (n - i) >> 3;
  if (words > 0) {
    const f = new Int32Array(b.buffer, b.byteOffset + i, words * 2);
    const m = f.length;
    let k = 0;
    for (; k + 8 <= m; k += 8)
      if (f[k]! | f[k + 1]! | f[k + 2]! | f[k + 3]! | f[k + 4]! | f[k + 5]! | f[k + 6]! | f[k + 7]!) return false;
    for (; k < m; k++) if (f[k] !== 0) return false;
    i += words * 8;
  }
  for (; i < n; i++) if (b[i] !== 0) return false;
  return true;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** memcmp order. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  let n = 0;
  for (const p of parts) n += p.length;
  const out = new Uint8Array(n);
  n = 0;
  for (const p of parts) {
    out.set(p, n);
    n += p.length;
  }
  return out;
}

export function toHex(b: Uint8Array): string {
  let s = '';
  for (const x of b) s += x.toString(16).padStart(2, '0');
  return s;
}

export function fromHex(s: string): Uint8Array {
  const out = new Uint8Array(s.length >> 1);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(s.slice(i * 2, i * 2 + 2), 16);
  return out;
}

/** 16 bytes in order, as ext4, XFS and most Unix structures store a UUID. */
export function uuidText(b: Uint8Array): string {
  const h = toHex(b.subarray(0, 16));
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`;
}

/** A GUID as Microsoft and GPT store it: the first three groups little endian.  Upper case, as sgdisk prints it. */
export function guidText(b: Uint8Array): string {
  const o = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return uuidText(Uint8Array.from(o, (i) => b[i] ?? 0)).toUpperCase();
}

export const alignUp = (n: number, unit: number) => Math.ceil(n / unit) * unit;
export const alignDown = (n: number, unit: number) => Math.floor(n / unit) * unit;
export const isPowerOfTwo = (n: number) => n > 0 && Number.isInteger(Math.log2(n));
