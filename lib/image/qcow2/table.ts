import type { WritableSource } from '../../block/source.js';
import { type BlockSource, checkRange } from '../../block/source.js';
import { corrupt, hex } from '../../core/errors.js';

/** A table of 64-bit big-endian words in memory: an L1 table, an L2 table, a refcount block.  Remembers what was changed. */
export class Table {
  readonly view: DataView;
  /** Changed bytes, empty when from >= to. */
  dirtyFrom = Number.POSITIVE_INFINITY;
  dirtyTo = 0;
  constructor(
    readonly bytes: Uint8Array,
    /** Where it lies in the file. */
    public offset: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  /** 64-bit entries. */
  get entries(): number {
    return this.bytes.length >>> 3;
  }
  get dirty(): boolean {
    return this.dirtyFrom < this.dirtyTo;
  }
  hi(i: number): number {
    return this.view.getUint32(i * 8);
  }
  lo(i: number): number {
    return this.view.getUint32(i * 8 + 4);
  }
  /** Bits 9-55: the offset an L1, L2 or bitmap table entry points to. */
  target(i: number): number {
    return (this.view.getUint32(i * 8) & 0x00ffffff) * 0x100000000 + ((this.view.getUint32(i * 8 + 4) & 0xfffffe00) >>> 0);
  }
  set(i: number, hi: number, lo: number): void {
    this.view.setUint32(i * 8, hi >>> 0);
    this.view.setUint32(i * 8 + 4, lo >>> 0);
    this.touch(i * 8, i * 8 + 8);
  }
  touch(from: number, to: number): void {
    if (from < this.dirtyFrom) this.dirtyFrom = from;
    if (to > this.dirtyTo) this.dirtyTo = to;
  }
  touchAll(): void {
    this.touch(0, this.bytes.length);
  }
  /** Writes what was changed, in whole sectors. */
  writeTo(file: WritableSource): void {
    if (!this.dirty) return;
    const from = this.dirtyFrom & ~511;
    const to = Math.min(this.bytes.length, (this.dirtyTo + 511) & ~511);
    file.write(this.bytes.subarray(from, to), this.offset + from);
    this.dirtyFrom = Number.POSITIVE_INFINITY;
    this.dirtyTo = 0;
  }
}

/** Reads a table; what lies past the end of the file is an error that names it. */
export function readTable(file: BlockSource, offset: number, length: number, what: string): Table {
  if (offset + length > file.size)
    throw corrupt(`${what} at ${hex(offset)} is past the end of the file (size ${hex(file.size)})`, { offset });
  checkRange(file, offset, length);
  const bytes = new Uint8Array(length);
  file.read(bytes, offset);
  return new Table(bytes, offset);
}

/**
 * Tables by file offset, bounded by bytes.  Changed tables stay until they were written: `makeRoom` is called when only
 * changed ones are left above the bound, and writes everything in its proper order.
 */
export class TableCache {
  readonly #map = new Map<number, Table>();
  readonly #max: number;
  #last: Table | undefined;
  constructor(
    private readonly file: BlockSource,
    private readonly clusterSize: number,
    boundBytes: number,
    private readonly what: string,
    private readonly makeRoom: () => void,
  ) {
    this.#max = Math.max(8, Math.floor(boundBytes / clusterSize));
  }

  get(offset: number): Table {
    if (this.#last !== undefined && this.#last.offset === offset) return this.#last;
    let t = this.#map.get(offset);
    if (t !== undefined) {
      this.#map.delete(offset);
      this.#map.set(offset, t);
    } else {
      if (offset % this.clusterSize !== 0)
        throw corrupt(`${this.what} at ${hex(offset)} is not aligned to clusters of ${this.clusterSize} bytes`, { offset });
      t = readTable(this.file, offset, this.clusterSize, this.what);
      this.add(t);
    }
    this.#last = t;
    return t;
  }

  #scratch: Table | undefined;
  /**
   * A table for one look, to be read only and not kept past the next `peek`: one that is not here is read into one buffer
   * used again and again, so that a walk over gigabytes of tables leaves no garbage and the cache as it was.
   */
  peek(offset: number): Table {
    if (this.#map.has(offset)) return this.get(offset);
    if (offset % this.clusterSize !== 0)
      throw corrupt(`${this.what} at ${hex(offset)} is not aligned to clusters of ${this.clusterSize} bytes`, { offset });
    if (offset + this.clusterSize > this.file.size)
      throw corrupt(`${this.what} at ${hex(offset)} is past the end of the file (size ${hex(this.file.size)})`, { offset });
    const scratch = (this.#scratch ??= new Table(new Uint8Array(this.clusterSize), offset));
    this.file.read(scratch.bytes, offset);
    scratch.offset = offset;
    return scratch;
  }

  has(offset: number): boolean {
    return this.#map.has(offset);
  }

  add(t: Table): void {
    if (this.#map.size >= this.#max) this.#evict();
    this.#map.set(t.offset, t);
  }

  #evict(): void {
    for (let round = 0; round < 2; round++) {
      let some = false;
      for (const [offset, t] of this.#map) {
        if (this.#map.size < this.#max) return;
        if (t.dirty) {
          some = true;
          continue;
        }
        this.#map.delete(offset);
        if (this.#last === t) this.#last = undefined;
      }
      if (!some || this.#map.size < this.#max) return;
      this.makeRoom();
    }
  }

  delete(offset: number): void {
    this.#map.delete(offset);
    if (this.#last?.offset === offset) this.#last = undefined;
  }
  *changed(): Generator<Table> {
    for (const t of this.#map.values()) if (t.dirty) yield t;
  }
  clear(): void {
    this.#map.clear();
    this.#last = undefined;
  }
}
