import { crc32 as zlibCrc32 } from 'node:zlib';

/** CRC-32 (IEEE 802.3, reflected, as GPT and gzip use it). */
export const crc32 = (b: Uint8Array, seed = 0): number => zlibCrc32(b, seed);

let table: Uint32Array | undefined;
function crc32cTables(): Uint32Array {
  const t = new Uint32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    t[i] = c;
  }
  for (let i = 0; i < 256; i++)
    for (let k = 1; k < 8; k++) t[k * 256 + i] = (t[(k - 1) * 256 + i]! >>> 8) ^ t[t[(k - 1) * 256 + i]! & 255]!;
  return t;
}

let native: ((b: Uint8Array, crc: number) => number) | undefined;
/** The addon registers its hardware CRC32C here; without it the table version below is used. */
export function setNativeCrc32c(f: ((b: Uint8Array, crc: number) => number) | undefined): void {
  native = f;
}

/**
 * CRC-32C (Castagnoli), raw register form: no initial or final inversion is applied, as ext4 and XFS chain it.
 * `crc32c(b)` with `~0` as seed and `~result` gives the usual checksum.
 */
export function crc32cRaw(b: Uint8Array, crc: number): number {
  return native !== undefined && b.length >= 64 ? native(b, crc >>> 0) : crc32cPure(b, crc);
}

/** Slicing-by-8 over tables made at first use; exported so that a test can compare it with the native one. */
export function crc32cPure(b: Uint8Array, crc: number): number {
  const t = (table ??= crc32cTables());
  crc >>>= 0;
  let i = 0;
  const n = b.length;
  for (; i + 8 <= n; i += 8) {
    const lo = crc ^ (b[i]! | (b[i + 1]! << 8) | (b[i + 2]! << 16) | (b[i + 3]! << 24));
    crc =
      t[7 * 256 + (lo & 255)]! ^
      t[6 * 256 + ((lo >>> 8) & 255)]! ^
      t[5 * 256 + ((lo >>> 16) & 255)]! ^
      t[4 * 256 + (lo >>> 24)]! ^
      t[3 * 256 + b[i + 4]!]! ^
      t[2 * 256 + b[i + 5]!]! ^
      t[256 + b[i + 6]!]! ^
      t[b[i + 7]!]!;
  }
  for (; i < n; i++) crc = (crc >>> 8) ^ t[(crc ^ b[i]!) & 255]!;
  return crc >>> 0;
}

/** The usual CRC-32C: initial value and result inverted. */
export const crc32c = (b: Uint8Array): number => ~crc32cRaw(b, 0xffffffff) >>> 0;

const CRC16 = /* @__PURE__ */ (() => {
  const t = new Uint16Array(256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xa001 : c >>> 1;
    t[i] = c;
  }
  return t;
})();
/** CRC-16 (IBM/ANSI, reflected 0x8005), seed as given: ext4 group descriptors without metadata_csum. */
export function crc16(b: Uint8Array, crc = 0xffff): number {
  for (let i = 0; i < b.length; i++) crc = (crc >>> 8) ^ CRC16[(crc ^ b[i]!) & 255]!;
  return crc & 0xffff;
}
