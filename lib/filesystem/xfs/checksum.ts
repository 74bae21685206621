import { crc32cRaw } from '../../core/checksum.js';
import { hex } from '../../core/errors.js';

const ZEROS = new Uint8Array(4);

/** CRC-32C of all bytes, the four at `crcAt` taken as zero. */
export function checksumOf(b: Uint8Array, crcAt: number): number {
  let crc = crc32cRaw(b.subarray(0, crcAt), 0xffffffff);
  crc = crc32cRaw(ZEROS, crc);
  return ~crc32cRaw(b.subarray(crcAt + 4), crc) >>> 0;
}

/** What is wrong with the checksum that is stored (little endian) at `crcAt`, if anything. */
export function checksumFault(b: Uint8Array, crcAt: number): string | undefined {
  const stored = (b[crcAt]! | (b[crcAt + 1]! << 8) | (b[crcAt + 2]! << 16) | (b[crcAt + 3]! << 24)) >>> 0;
  const expected = checksumOf(b, crcAt);
  return stored === expected ? undefined : `checksum is ${hex(stored)}, expected ${hex(expected)}`;
}
