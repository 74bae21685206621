import { corrupt, hex } from '../../core/errors.js';
import { viewOf } from '../../core/struct.js';
import { decodeName } from '../../core/text.js';

/** A column's value.  Integers above 2^53 come as bigint. */
export type SqliteValue = null | number | bigint | string | Uint8Array;
export type TextEncoding = 'utf8' | 'utf16le' | 'utf16be';

/** A variable-length integer; its value and the position after it.  64-bit patterns above 2^53 are too large for any use here. */
export function varint(b: Uint8Array, at: number, out: { value: number }): number {
  let value = 0;
  for (let i = 0; i < 9; i++) {
    const c = b[at + i];
    if (c === undefined) throw corrupt(`SQLite number at ${hex(at)} is cut off`);
    if (i === 8) {
      out.value = value * 256 + c;
      return at + 9;
    }
    value = value * 128 + (c & 0x7f);
    if (c < 0x80) {
      out.value = value;
      return at + i + 1;
    }
  }
  return at + 9;
}

const FIXED = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0] as const;

/** The columns of a record (fileformat2.html, section 2.1). */
export function record(b: Uint8Array, encoding: TextEncoding): SqliteValue[] {
  const n = { value: 0 };
  let at = varint(b, 0, n);
  const headerEnd = n.value;
  if (headerEnd > b.length) throw corrupt(`SQLite record header of ${headerEnd} bytes in a record of ${b.length}`);
  const v = viewOf(b);
  let data = headerEnd;
  const out: SqliteValue[] = [];
  while (at < headerEnd) {
    at = varint(b, at, n);
    const type = n.value;
    const size = type < 10 ? FIXED[type]! : type >= 12 ? Math.floor((type - 12) / 2) : -1;
    if (size < 0) throw corrupt(`SQLite record has a column of type ${type}`);
    if (data + size > b.length) throw corrupt(`SQLite column of ${size} bytes is outside its record of ${b.length}`);
    out.push(value(b, v, data, type, size, encoding));
    data += size;
  }
  return out;
}

function value(b: Uint8Array, v: DataView, at: number, type: number, size: number, encoding: TextEncoding): SqliteValue {
  switch (type) {
    case 0:
      return null;
    case 1:
      return v.getInt8(at);
    case 2:
      return v.getInt16(at);
    case 3:
      return (v.getInt8(at) << 16) | v.getUint16(at + 1);
    case 4:
      return v.getInt32(at);
    case 5:
      return v.getInt16(at) * 2 ** 32 + v.getUint32(at + 2);
    case 6: {
      const n = v.getBigInt64(at);
      return Number.isSafeInteger(Number(n)) ? Number(n) : n;
    }
    case 7:
      return v.getFloat64(at);
    case 8:
      return 0;
    case 9:
      return 1;
    default: {
      const bytes = b.subarray(at, at + size);
      return type % 2 === 0 ? bytes : text(bytes, encoding);
    }
  }
}

function text(b: Uint8Array, encoding: TextEncoding): string {
  if (encoding === 'utf8') return decodeName(b);
  const even = Buffer.from(b.subarray(0, b.length & ~1));
  return (encoding === 'utf16be' ? even.swap16() : even).toString('utf16le');
}
