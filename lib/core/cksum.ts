/** POSIX cksum: CRC-32 with polynomial 04C11DB7, not reflected, over the bytes and then their count. */
let table: Uint32Array | undefined;

function cksumTable(): Uint32Array {
  const t = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let c = i << 24;
    for (let k = 0; k < 8; k++) c = c & 0x80000000 ? (c << 1) ^ 0x04c11db7 : c << 1;
    t[i] = c >>> 0;
  }
  return t;
}

/** Of a stream that `read` gives, as `cksum` prints it. */
export function crcOfStream(file: { read(into: Uint8Array, offset: number): number }, buffer: Uint8Array): number {
  table ??= cksumTable();
  let crc = 0;
  let size = 0;
  for (let n: number; (n = file.read(buffer, size)) > 0; size += n)
    for (let i = 0; i < n; i++) crc = (crc << 8) ^ table[((crc >>> 24) ^ buffer[i]!) & 255]!;
  for (let n = size; n > 0; n = Math.floor(n / 256)) crc = (crc << 8) ^ table[((crc >>> 24) ^ (n % 256)) & 255]!;
  return ~crc >>> 0;
}
