import { corrupt, hex, unsupported } from './errors.js';

/**
 * What an .xz file unpacks to, in bytes, without unpacking it: LZMA2 says the size of each of its chunks in the open, and
 * a decoder obeys just these.  The sizes that block headers and the index name are not trusted, as a hostile file lies there.
 * Format: xz-file-format 1.1; chunks as in liblzma's lzma2_decoder.
 */
export const xzSize = (b: Uint8Array): number => xzStreams(b).reduce((sum, s) => sum + s.size, 0);

export interface XzStream {
  readonly from: number;
  readonly to: number;
  /** Bytes it unpacks to. */
  readonly size: number;
}

/** The streams of a file one after the other, padding between them left out. */
export function xzStreams(b: Uint8Array): readonly XzStream[] {
  const out: XzStream[] = [];
  let at = 0;
  while (isStream(b, at)) {
    const from = at;
    let total = 0;
    const checkBytes = CHECK_BYTES[b[at + 7]! & 15]!;
    at += STREAM_HEADER;
    // A header size of zero is the index, which ends the blocks.
    while (byte(b, at) !== 0) {
      const block = at;
      at = dataStart(b, block);
      for (let control: number; (control = byte(b, at)) !== 0; ) {
        if (control >= 0x80) {
          total += ((control & 0x1f) << 16) + u16(b, at + 1) + 1;
          at += (control >= 0xc0 ? 6 : 5) + u16(b, at + 3) + 1;
        } else if (control <= 2) {
          const size = u16(b, at + 1) + 1;
          total += size;
          at += 3 + size;
        } else throw corrupt(`xz data: chunk at ${hex(at)} has control byte ${hex(control)}`);
      }
      at += 1;
      at += (4 - ((at - block) % 4)) % 4;
      at += checkBytes;
    }
    at = afterIndex(b, at);
    out.push({ from, to: at, size: total });
    while (at + 4 <= b.length && b[at] === 0 && b[at + 1] === 0 && b[at + 2] === 0 && b[at + 3] === 0) at += 4;
  }
  return out;
}

const STREAM_HEADER = 12;
const STREAM_FOOTER = 12;
/** By the type of check: none, CRC32, …, CRC64, …, SHA-256 and the reserved ones. */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
const LZMA2 = 0x21;
/** `xz -9` has 64 MiB; the decoder allocates this at once. */
const MAX_DICTIONARY = 256 << 20;

const isStream = (b: Uint8Array, at: number) =>
  at + STREAM_HEADER <= b.length &&
  b[at] === 0xfd &&
  b[at + 1] === 0x37 &&
  b[at + 2] === 0x7a &&
  b[at + 3] === 0x58 &&
  b[at + 4] === 0x5a &&
  b[at + 5] === 0;

function byte(b: Uint8Array, at: number): number {
  const v = b[at];
  if (v === undefined) throw corrupt(`xz data ends at ${hex(b.length)}, inside a stream`);
  return v;
}
const u16 = (b: Uint8Array, at: number) => (byte(b, at) << 8) | byte(b, at + 1);

function number(b: Uint8Array, at: number): readonly [value: number, next: number] {
  let value = 0;
  for (let i = 0; i < 9; i++) {
    const c = byte(b, at + i);
    value += (c & 0x7f) * 2 ** (7 * i);
    if (c < 0x80) return [value, at + i + 1];
  }
  throw corrupt(`xz data: number at ${hex(at)} has no end`);
}

/** Where a block's data start; its filters are checked on the way. */
function dataStart(b: Uint8Array, block: number): number {
  const end = block + (byte(b, block) + 1) * 4;
  const flags = byte(b, block + 1);
  let at = block + 2;
  if (flags & 0x40) at = number(b, at)[1];
  if (flags & 0x80) at = number(b, at)[1];
  for (let i = flags & 3; i >= 0; i--) {
    const [id, afterId] = number(b, at);
    const [size, properties] = number(b, afterId);
    if (i === 0) {
      if (id !== LZMA2 || size !== 1) throw unsupported(`xz data: filter ${hex(id)} is not supported`);
      const bits = byte(b, properties);
      const dictionary = bits > 40 ? Number.POSITIVE_INFINITY : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
      if (dictionary > MAX_DICTIONARY)
        throw unsupported(`xz data: a dictionary of ${dictionary} bytes is above the limit of ${MAX_DICTIONARY}`);
    }
    at = properties + size;
    if (at > end) throw corrupt(`xz data: filters of the block at ${hex(block)} are longer than its header`);
  }
  return end;
}

/** Behind the index at `start` and the stream's footer. */
function afterIndex(b: Uint8Array, start: number): number {
  let [records, at] = number(b, start + 1);
  for (; records > 0; records--) {
    at = number(b, at)[1];
    at = number(b, at)[1];
  }
  at += (4 - ((at - start) % 4)) % 4;
  return at + 4 + STREAM_FOOTER;
}
