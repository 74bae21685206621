import { corrupt, hex } from './errors.js';

/**
 * On-disk structs.  A struct is declared once, at module level, with the offsets of the specification:
 *
 *   const Extent = struct('ext4 extent', 'le', 12, {
 *     firstBlock: u32(0x0),  length: u16(0x4),  startHi: u16(0x6),  startLo: u32(0x8),
 *   });
 *   const e = Extent.at(block, 12 + i * Extent.size);   // a view: nothing is read yet
 *   e.length;                                           // reads two bytes
 *   e.length = 7;                                       // writes two bytes
 *
 * A view costs what hand-written DataView calls cost, because each field is one small getter on the
 * class's prototype.  Fields not touched are not read.
 */
export type Endian = 'le' | 'be';
type Get<T> = (this: Raw) => T;
type Set<T> = (this: Raw, value: T) => void;
export interface Field<T> {
  readonly at: number;
  readonly size: number;
  /** Property functions for one endianness.  One literal per type, so that the engine inlines it. */
  accessors(le: boolean): { get: Get<T>; set: Set<T> };
}
type FieldMap = Record<string, Field<any>>;
export type Values<F extends FieldMap> = { -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };
export type Raw = { readonly view: DataView; readonly base: number };
export interface Struct<F extends FieldMap> {
  readonly name: string;
  readonly size: number;
  /** Field offsets, for loops too hot for views: `d.getUint16(o + Dirent.offset.recLen, true)`. */
  readonly offset: { readonly [K in keyof F]: number };
  /** A view of `bytes` at `pos`; throws when the struct would not fit. */
  at(bytes: Uint8Array, pos?: number): Values<F> & Raw;
  /** A plain copy of every field, for tests and for printing. */
  decode(bytes: Uint8Array, pos?: number): Values<F>;
  /** Fresh bytes holding `values`; fields left out are zero. */
  encode(values: Partial<Values<F>>): Uint8Array;
}

export const u8 = (at: number): Field<number> => ({
  at,
  size: 1,
  accessors: () => ({
    get() {
      return this.view.getUint8(this.base + at);
    },
    set(v) {
      this.view.setUint8(this.base + at, v);
    },
  }),
});
export const u16 = (at: number): Field<number> => ({
  at,
  size: 2,
  accessors: (le) => ({
    get() {
      return this.view.getUint16(this.base + at, le);
    },
    set(v) {
      this.view.setUint16(this.base + at, v, le);
    },
  }),
});
export const u32 = (at: number): Field<number> => ({
  at,
  size: 4,
  accessors: (le) => ({
    get() {
      return this.view.getUint32(this.base + at, le);
    },
    set(v) {
      this.view.setUint32(this.base + at, v, le);
    },
  }),
});
export const i32 = (at: number): Field<number> => ({
  at,
  size: 4,
  accessors: (le) => ({
    get() {
      return this.view.getInt32(this.base + at, le);
    },
    set(v) {
      this.view.setInt32(this.base + at, v, le);
    },
  }),
});
/** 64 bits as a number: offsets, sizes, counts.  Above 2^53-1 the image is corrupt, and that is what is thrown. */
export const u64 = (at: number): Field<number> => ({
  at,
  size: 8,
  accessors: (le) => ({
    get() {
      const o = this.base + at,
        hi = this.view.getUint32(le ? o + 4 : o, le),
        lo = this.view.getUint32(le ? o : o + 4, le);
      if (hi > 0x1fffff) throw tooLarge(o, hi, lo);
      return hi * 0x100000000 + lo;
    },
    set(v) {
      const o = this.base + at;
      this.view.setUint32(le ? o + 4 : o, Math.floor(v / 0x100000000), le);
      this.view.setUint32(le ? o : o + 4, v >>> 0, le);
    },
  }),
});
const tooLarge = (at: number, hi: number, lo: number) =>
  corrupt(`64-bit value at ${hex(at)} is too large: ${hex((BigInt(hi) << 32n) | BigInt(lo))}`);
/** All 64 bits: checksums, flags, file references, times in 100 ns. */
export const u64bits = (at: number): Field<bigint> => ({
  at,
  size: 8,
  accessors: (le) => ({
    get() {
      return this.view.getBigUint64(this.base + at, le);
    },
    set(v) {
      this.view.setBigUint64(this.base + at, v, le);
    },
  }),
});
export const bytes = (at: number, size: number): Field<Uint8Array> => {
  const part = (r: Raw) => new Uint8Array(r.view.buffer, r.view.byteOffset + r.base + at, size);
  return {
    at,
    size,
    accessors: () => ({
      get() {
        return part(this);
      },
      set(v) {
        part(this).set(v);
      },
    }),
  };
};

export function struct<const F extends FieldMap>(name: string, endian: Endian, size: number, fields: F): Struct<F> {
  const le = endian === 'le';
  const entries = Object.entries(fields) as [keyof F & string, Field<any>][];
  for (const [key, f] of entries)
    if (f.at + f.size > size)
      throw new TypeError(`${name}.${key} ends at ${hex(f.at + f.size)}, past the declared size ${hex(size)}`);
  class View {
    constructor(
      readonly view: DataView,
      readonly base: number,
    ) {}
  }
  for (const [key, field] of entries) {
    Object.defineProperty(View.prototype, key, { enumerable: true, ...field.accessors(le) });
  }
  const at = (b: Uint8Array, pos = 0) => {
    if (pos < 0 || pos + size > b.byteLength)
      throw corrupt(`${name} at ${hex(pos)} needs ${size} bytes, ${Math.max(0, b.byteLength - pos)} left`);
    return new View(viewOf(b), pos) as unknown as Values<F> & Raw;
  };
  return {
    name,
    size,
    at,
    offset: Object.fromEntries(entries.map(([k, f]) => [k, f.at])) as Struct<F>['offset'],
    decode(b, pos) {
      const v = at(b, pos) as any;
      return Object.fromEntries(entries.map(([k]) => [k, v[k]])) as Values<F>;
    },
    encode(values) {
      const b = new Uint8Array(size);
      Object.assign(at(b), values);
      return b;
    },
  };
}

let lastBytes: Uint8Array | undefined, lastView: DataView | undefined;
/** One DataView per buffer, not per struct: making a DataView costs three times what the fields do. */
export function viewOf(b: Uint8Array): DataView {
  if (b !== lastBytes) {
    lastBytes = b;
    lastView = new DataView(b.buffer, b.byteOffset, b.byteLength);
  }
  return lastView!;
}
