import { corrupt, hex } from '../../core/errors.js';
import { viewOf } from '../../core/struct.js';
import { decodeName } from '../../core/text.js';

/**
 * An rpm header as databases store it (rpm's "header format", without the lead and the magic): two big-endian counts, an
 * index of 16-byte entries, then the data that they point into.
 */
export const Tag = {
  name: 1000,
  version: 1001,
  release: 1002,
  epoch: 1003,
  summary: 1004,
  description: 1005,
  installTime: 1008,
  size: 1009,
  vendor: 1011,
  license: 1014,
  packager: 1015,
  url: 1020,
  arch: 1022,
  sourceRpm: 1044,
  longSize: 5009,
} as const;

const Type = { int8: 2, int16: 3, int32: 4, int64: 5, string: 6, stringArray: 8, i18nString: 9 } as const;

/** rpm's own ceilings (header.c: headerMaxEntries and the data size that it still reads). */
const MAX_ENTRIES = 0xffff;
const MAX_DATA = 0x0fffffff;

interface Entry {
  readonly type: number;
  readonly offset: number;
  readonly count: number;
}

export class RpmHeader {
  readonly #entries = new Map<number, Entry>();
  readonly #data: Uint8Array;

  constructor(blob: Uint8Array) {
    if (blob.length < 8) throw corrupt(`rpm header of ${blob.length} bytes is too short`);
    const v = viewOf(blob);
    const entries = v.getUint32(0);
    const dataLength = v.getUint32(4);
    if (entries === 0 || entries > MAX_ENTRIES) throw corrupt(`rpm header has ${entries} entries (at most ${MAX_ENTRIES})`);
    if (dataLength > MAX_DATA) throw corrupt(`rpm header has ${dataLength} bytes of data (at most ${MAX_DATA})`);
    const start = 8 + entries * 16;
    if (start + dataLength > blob.length)
      throw corrupt(`rpm header of ${entries} entries and ${dataLength} bytes of data is cut off at ${blob.length} bytes`);
    this.#data = blob.subarray(start, start + dataLength);
    // What was added after the package was built (install time, …) follows the signed region and wins over it.
    for (let at = 8; at < start; at += 16)
      this.#entries.set(v.getUint32(at), {
        type: v.getUint32(at + 4),
        offset: v.getInt32(at + 8),
        count: v.getUint32(at + 12),
      });
  }

  /** The string of a tag; of a translated one the first, which is the C locale's. */
  string(tag: number): string | undefined {
    const e = this.#entries.get(tag);
    if (e === undefined || e.count === 0) return undefined;
    if (e.type !== Type.string && e.type !== Type.stringArray && e.type !== Type.i18nString) return undefined;
    const end = e.offset < 0 ? -1 : this.#data.indexOf(0, e.offset);
    if (end < 0) throw corrupt(`rpm header: string of tag ${tag} at ${hex(e.offset >>> 0)} has no end`);
    return decodeName(this.#data.subarray(e.offset, end));
  }

  /** The first number of a tag. */
  number(tag: number): number | undefined {
    const e = this.#entries.get(tag);
    if (e === undefined || e.count === 0) return undefined;
    const size = e.type === Type.int8 ? 1 : e.type === Type.int16 ? 2 : e.type === Type.int32 ? 4 : e.type === Type.int64 ? 8 : 0;
    if (size === 0) return undefined;
    if (e.offset < 0 || e.offset + size > this.#data.length)
      throw corrupt(
        `rpm header: number of tag ${tag} at ${hex(e.offset >>> 0)} is outside the data (size ${hex(this.#data.length)})`,
      );
    const v = viewOf(this.#data);
    if (size === 1) return v.getUint8(e.offset);
    if (size === 2) return v.getUint16(e.offset);
    if (size === 4) return v.getUint32(e.offset);
    return v.getUint32(e.offset) * 2 ** 32 + v.getUint32(e.offset + 4);
  }
}
