import { createRequire } from 'node:module';
import { brotliDecompressSync, constants, deflateRawSync, gunzipSync, inflateRawSync, inflateSync } from 'node:zlib';
import { concatBytes } from './bytes.js';
import { corrupt, unsupported } from './errors.js';
import { xzStreams } from './xz-size.js';

/**
 * Decompressors (and the compressors that image formats need), one place for all layers.  Each library is loaded by its
 * first use only.  Every function takes a ceiling for its output, because a few hostile bytes can claim terabytes.
 */
const require = createRequire(import.meta.url);

interface ZstdNapi {
  decompress(b: Uint8Array): Buffer;
  compress(b: Uint8Array, options?: { compressionLevel?: number }): Buffer;
  DecompressStream: unknown;
}
let zstdNapi: ZstdNapi | null | undefined;
/** zstd-napi, or null where its native part could not be built. */
export function nativeZstd(): ZstdNapi | null {
  if (zstdNapi === undefined) {
    try {
      zstdNapi = require('zstd-napi') as ZstdNapi;
    } catch {
      zstdNapi = null;
    }
  }
  return zstdNapi;
}

function guarded(what: string, body: () => Uint8Array): Uint8Array {
  try {
    return body();
  } catch (e) {
    throw corrupt(`${what}: ${e instanceof Error ? e.message : String(e)}`);
  }
}

/** Raw deflate (no header).  Trailing bytes after the stream are ignored, as disk formats pad it. */
export const inflateRaw = (b: Uint8Array, maxBytes: number): Uint8Array =>
  guarded('deflate data', () => inflateRawSync(b, { maxOutputLength: maxBytes, finishFlush: constants.Z_SYNC_FLUSH }));
/** zlib stream (RFC 1950). */
export const inflateZlib = (b: Uint8Array, maxBytes: number): Uint8Array =>
  guarded('zlib data', () => inflateSync(b, { maxOutputLength: maxBytes, finishFlush: constants.Z_SYNC_FLUSH }));
/** gzip file, all members. */
export const gunzip = (b: Uint8Array, maxBytes: number): Uint8Array =>
  guarded('gzip data', () => gunzipSync(b, { maxOutputLength: maxBytes }));
export const deflateRaw = (b: Uint8Array, level = -1, windowBits = 15): Uint8Array => deflateRawSync(b, { level, windowBits });
export const unbrotli = (b: Uint8Array, maxBytes: number): Uint8Array =>
  guarded('brotli data', () => brotliDecompressSync(b, { maxOutputLength: maxBytes }));

/** All zstd frames of `b`. */
export function unzstd(b: Uint8Array, maxBytes: number): Uint8Array {
  const size = zstdContentSize(b);
  if (size !== undefined && size > maxBytes) throw corrupt(`zstd data: content size ${size} is above the limit of ${maxBytes}`);
  return guarded('zstd data', () => {
    const native = nativeZstd();
    if (native !== null && size !== undefined) return native.decompress(b);
    return boundedFzstd(b, maxBytes);
  });
}

/** Content size from the frame header (RFC 8878, 3.1.1.1), undefined when the header does not say. */
function zstdContentSize(b: Uint8Array): number | undefined {
  if (b.length < 6 || b[0] !== 0x28 || b[1] !== 0xb5 || b[2] !== 0x2f || b[3] !== 0xfd) return undefined;
  const d = b[4]!;
  const flag = d >> 6;
  const single = (d >> 5) & 1;
  const dictBytes = [0, 1, 2, 4][d & 3]!;
  const at = 5 + (single ? 0 : 1) + dictBytes;
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  if (flag === 0) return single && at < b.length ? b[at]! : undefined;
  if (at + [0, 2, 4, 8][flag]! > b.length) return undefined;
  if (flag === 1) return v.getUint16(at, true) + 256;
  if (flag === 2) return v.getUint32(at, true);
  return v.getUint32(at + 4, true) * 2 ** 32 + v.getUint32(at, true);
}

/** Streams through fzstd, so that output past the ceiling is never made. */
function boundedFzstd(b: Uint8Array, maxBytes: number): Uint8Array {
  const { Decompress } = require('fzstd') as typeof import('fzstd');
  const parts: Uint8Array[] = [];
  let total = 0;
  const d = new Decompress((chunk) => {
    total += chunk.length;
    if (total > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    parts.push(chunk);
  });
  for (let at = 0; at < b.length; at += 65536) d.push(b.subarray(at, Math.min(b.length, at + 65536)), at + 65536 >= b.length);
  const out = new Uint8Array(total);
  let n = 0;
  for (const p of parts) {
    out.set(p, n);
    n += p.length;
  }
  return out;
}

/** One zstd frame. */
export function zstd(b: Uint8Array, level = 3): Uint8Array {
  const native = nativeZstd();
  if (native === null)
    throw unsupported('zstd compression needs the zstd-napi package with its native part (npm rebuild zstd-napi)');
  return native.compress(b, { compressionLevel: level });
}

/** .xz files: all streams. */
export function unxz(b: Uint8Array, maxBytes: number): Uint8Array {
  const streams = xzStreams(b);
  const size = streams.reduce((sum, s) => sum + s.size, 0);
  if (size > maxBytes) throw corrupt(`xz data: unpacks to ${size} bytes, above the limit of ${maxBytes}`);
  const { decompressSync } = require('@napi-rs/lzma/xz') as { decompressSync(b: Uint8Array): Uint8Array };
  // The decoder knows one stream at a time; what is no stream at all it refuses in its own words.
  return guarded('xz data', () =>
    streams.length < 2 ? decompressSync(b) : concatBytes(streams.map((s) => decompressSync(b.subarray(s.from, s.to)))),
  );
}

/** One raw LZ4 block (block format): at most `maxBytes` out. */
export function unlz4Block(b: Uint8Array, maxBytes: number): Uint8Array {
  const out = new Uint8Array(maxBytes);
  let i = 0;
  let o = 0;
  const n = b.length;
  while (i < n) {
    const token = b[i++]!;
    let literals = token >> 4;
    if (literals === 15) {
      let c: number;
      do {
        if (i >= n) throw corrupt('LZ4 block ends inside a length');
        c = b[i++]!;
        literals += c;
      } while (c === 255);
    }
    if (i + literals > n || o + literals > maxBytes) throw corrupt(`LZ4 block: ${literals} literals at ${i} do not fit`);
    out.set(b.subarray(i, i + literals), o);
    i += literals;
    o += literals;
    if (i >= n) break;
    if (i + 2 > n) throw corrupt('LZ4 block ends inside an offset');
    const distance = b[i]! | (b[i + 1]! << 8);
    i += 2;
    if (distance === 0 || distance > o) throw corrupt(`LZ4 block: offset ${distance} at output byte ${o}`);
    let length = token & 15;
    if (length === 15) {
      let c: number;
      do {
        if (i >= n) throw corrupt('LZ4 block ends inside a length');
        c = b[i++]!;
        length += c;
      } while (c === 255);
    }
    length += 4;
    if (o + length > maxBytes) throw corrupt(`LZ4 block: more than ${maxBytes} bytes`);
    if (distance >= length) out.copyWithin(o, o - distance, o - distance + length);
    else for (let k = 0; k < length; k++) out[o + k] = out[o + k - distance]!;
    o += length;
  }
  return out.subarray(0, o);
}

/** bzip2 is rare (old rotated logs): a small decoder of ours lives in its own file and is loaded by its first use. */
export { bunzip2 } from './bzip2.js';
