import { GuestError, usage } from '../../core/errors.js';
import { encodeName } from '../../core/text.js';
import { type BitmapEntry, bitmapBytes, readBitmap, readBitmapDirectory } from './bitmap-table.js';
import { setExtension } from './header.js';
import * as S from './structs.js';
import { readTable, Table } from './table.js';
import type { Writer } from './writer.js';

interface Loaded {
  entry: BitmapEntry;
  /** Bits in memory, when they may have changed. */
  bits?: Uint8Array;
}

/** The image's bitmaps while it is open for writing: enabled ones follow every write and are stored at closing. */
export class Bitmaps {
  #all: Loaded[] | undefined;
  #directory: { readonly offset: number; readonly bytes: number } | undefined;
  #inconsistent = false;
  constructor(private readonly w: Writer) {}

  #load(): Loaded[] {
    if (this.#all === undefined) {
      const d = readBitmapDirectory(this.w.s);
      this.#directory = d;
      // Someone wrote without knowing of bitmaps: what is stored is stale for ever.
      this.#inconsistent = d !== undefined && !d.consistent;
      this.#all = (d?.entries ?? []).map((entry) => ({ entry }));
      if (this.#inconsistent) for (const b of this.#all) b.entry.flags |= S.BITMAP_IN_USE;
    }
    return this.#all;
  }
  #find(name: string): Loaded {
    const b = this.#load().find((x) => x.entry.name === name);
    if (b === undefined) throw new GuestError('not-found', `${this.w.s.label} has no bitmap "${name}"`);
    return b;
  }
  #usable(b: Loaded): Uint8Array {
    if (b.bits === undefined) {
      if (b.entry.flags & S.BITMAP_IN_USE)
        throw new GuestError('corrupt', `bitmap "${b.entry.name}" was not saved properly and is inconsistent (remove it)`);
      if (b.entry.extra.length > 0 && !(b.entry.flags & S.BITMAP_EXTRA_COMPATIBLE))
        throw new GuestError('unsupported', `bitmap "${b.entry.name}" has extra data that is not known`);
      b.bits = readBitmap(this.w.s, b.entry, this.w.s.header.size);
    }
    return b.bits;
  }

  /** From the first change on, enabled bitmaps follow every write. */
  track(): void {
    this.w.tracker = {
      mark: (offset, length) => {
        if (!this.#marked) this.#markInUse();
        for (const b of this.#active) setRange(b.bits!, b.entry.granularityBits, offset, length);
      },
    };
  }
  #storeAtEnd = false;
  #marked = false;
  #active: Loaded[] = [];

  /** Enabled bitmaps are in use on disk from before the first write until they are stored. */
  #markInUse(): void {
    const all = this.#load();
    const active = all.filter((b) => b.entry.flags & S.BITMAP_AUTO && !(b.entry.flags & S.BITMAP_IN_USE));
    // One that cannot be read stops the write: it could not be kept true.
    for (const b of active) this.#usable(b);
    this.#active = active;
    this.#marked = true;
    if (active.length === 0) return;
    const flagged = all.map((b) => (active.includes(b) ? { ...b.entry, flags: b.entry.flags | S.BITMAP_IN_USE } : b.entry));
    this.w.target.write(encodeDirectory(flagged), this.#directory!.offset);
    this.#storeAtEnd = true;
  }

  /** A bitmap's bits as they are now. */
  read(name: string): Uint8Array {
    return this.#usable(this.#find(name)).slice();
  }

  /** Stores what was tracked. */
  save(): void {
    if (this.#storeAtEnd) this.#store();
    this.#storeAtEnd = false;
  }

  /** Bits follow the disk's size. */
  resize(oldSize: number, size: number): void {
    for (const b of this.#load()) {
      if (b.entry.flags & S.BITMAP_IN_USE) continue;
      if (b.bits === undefined) b.bits = readBitmap(this.w.s, b.entry, oldSize);
      const next = new Uint8Array(bitmapBytes(size, b.entry.granularityBits));
      next.set(b.bits.subarray(0, next.length));
      const used = Math.ceil(size / 2 ** b.entry.granularityBits) % 8;
      if (used !== 0) next[next.length - 1] = next[next.length - 1]! & ((1 << used) - 1);
      b.bits = next;
    }
    if (this.#all!.length > 0) this.#storeAtEnd = true;
  }
  /** Loads all bits: the disk's size is about to change. */
  prepareResize(): void {
    for (const b of this.#load()) if (!(b.entry.flags & S.BITMAP_IN_USE)) this.#usable(b);
  }

  add(name: string, options: { readonly granularity?: number; readonly disabled?: boolean } = {}): void {
    this.w.prepare();
    const all = this.#load();
    const granularityBits = Math.log2(options.granularity ?? 65536);
    if (!Number.isInteger(granularityBits) || granularityBits < 9 || granularityBits > 31)
      throw usage(`granularity ${options.granularity} is not a power of two from 512 to 2 GiB`);
    if (all.some((b) => b.entry.name === name)) throw new GuestError('exists', `there is a bitmap "${name}" already`);
    const length = encodeName(name).length;
    if (length === 0 || length > 1023) throw usage(`a bitmap's name has 1 to 1023 bytes, not ${length}`);
    if (this.w.s.header.version < 3) throw new GuestError('unsupported', 'bitmaps need a version 3 image (amend -o compat=1.1)');
    if (all.length >= S.MAX_BITMAPS) throw usage(`the image has ${S.MAX_BITMAPS} bitmaps already`);
    all.push({
      entry: {
        name,
        tableOffset: 0,
        tableSize: 0,
        flags: options.disabled ? 0 : S.BITMAP_AUTO,
        type: 1,
        granularityBits,
        extra: new Uint8Array(0),
      },
      bits: new Uint8Array(bitmapBytes(this.w.s.header.size, granularityBits)),
    });
    this.#store();
  }
  remove(name: string): void {
    const b = this.#find(name);
    this.#all = this.#load().filter((x) => x !== b);
    this.#dropStorage(b.entry);
    this.#store();
  }
  clear(name: string): void {
    this.#usable(this.#find(name)).fill(0);
    this.#store();
  }
  enable(name: string, on: boolean): void {
    const b = this.#find(name);
    this.#usable(b);
    b.entry.flags = on ? b.entry.flags | S.BITMAP_AUTO : b.entry.flags & ~S.BITMAP_AUTO;
    this.#store();
  }
  /** Adds the bits of `source` (of this image, or bits given) to bitmap `name`. */
  merge(name: string, source: string | { readonly bits: Uint8Array; readonly granularity: number }): void {
    const target = this.#find(name);
    const bits = this.#usable(target);
    const from = typeof source === 'string' ? this.#find(source) : undefined;
    const data = from === undefined ? (source as { bits: Uint8Array }).bits : this.#usable(from);
    const granularity = from === undefined ? (source as { granularity: number }).granularity : 2 ** from.entry.granularityBits;
    const size = this.w.s.header.size;
    for (let i = 0; i < data.length; i++) {
      if (data[i] === 0) continue;
      for (let k = 0; k < 8; k++)
        if (data[i]! & (1 << k)) {
          const at = (i * 8 + k) * granularity;
          if (at < size) setRange(bits, target.entry.granularityBits, at, Math.min(granularity, size - at));
        }
    }
    this.#store();
  }

  /** Freed when the header no longer leads there. */
  #dropped: [number, number][] = [];
  #dropStorage(e: BitmapEntry): void {
    if (e.tableOffset === 0 || e.tableSize === 0) return;
    const { s } = this.w;
    const table = readTable(s.file, e.tableOffset, e.tableSize * 8, `table of bitmap "${e.name}"`);
    for (let i = 0; i < table.entries; i++) if (table.target(i) !== 0) this.#dropped.push([table.target(i), s.clusterSize]);
    this.#dropped.push([e.tableOffset, e.tableSize * 8]);
  }

  /** Writes changed bits and a new directory to new clusters; the header switches over in one write. */
  #store(): void {
    const { w } = this;
    const { s, refcounts } = w;
    w.prepare();
    const all = this.#load();
    for (const b of all) if (b.bits !== undefined) this.#storeBits(b);
    const old = this.#directory;
    let directory: { offset: number; bytes: number } | undefined;
    if (all.length > 0) {
      const bytes = encodeDirectory(all.map((b) => b.entry));
      const offset = refcounts.allocateExact(Math.ceil(bytes.length / s.clusterSize)) * s.clusterSize;
      w.target.write(bytes, offset);
      directory = { offset, bytes: bytes.length };
    }
    w.writeBack();
    w.target.flush();
    if (directory === undefined) {
      setExtension(s.header, S.EXT_BITMAPS, undefined);
      s.header.autoclear &= ~S.AUTOCLEAR_BITMAPS;
    } else {
      setExtension(
        s.header,
        S.EXT_BITMAPS,
        S.BitmapsExtension.encode({ count: all.length, directorySize: directory.bytes, directoryOffset: directory.offset }),
      );
      s.header.autoclear |= S.AUTOCLEAR_BITMAPS;
    }
    s.writeHeader();
    if (old !== undefined) refcounts.freeLater(old.offset, old.bytes);
    for (const [offset, length] of this.#dropped) refcounts.freeLater(offset, length);
    this.#dropped = [];
    this.#directory = directory;
    this.#marked = false;
    w.writeBack();
  }

  #storeBits(b: Loaded): void {
    const { s, refcounts } = this.w;
    const cs = s.clusterSize;
    this.#dropStorage(b.entry);
    const bits = b.bits!;
    const clusters = Math.ceil(bits.length / cs);
    const table = new Table(new Uint8Array(clusters * 8), 0);
    for (let i = 0; i < clusters; i++) {
      const part = bits.subarray(i * cs, Math.min(bits.length, (i + 1) * cs));
      if (part.every((x) => x === 0)) continue;
      const at = refcounts.allocate(1).cluster * cs;
      const whole = new Uint8Array(cs);
      whole.set(part);
      this.w.target.write(whole, at);
      table.set(i, Math.floor(at / 0x100000000), at % 0x100000000);
    }
    const offset = clusters === 0 ? 0 : refcounts.allocateExact(Math.ceil((clusters * 8) / cs)) * cs;
    if (clusters > 0) this.w.target.write(table.bytes, offset);
    b.entry = { ...b.entry, tableOffset: offset, tableSize: clusters };
  }
}

function setRange(bits: Uint8Array, granularityBits: number, offset: number, length: number): void {
  const g = 2 ** granularityBits;
  const first = Math.floor(offset / g);
  const last = Math.min(bits.length * 8 - 1, Math.floor((offset + length - 1) / g));
  for (let i = first; i <= last; ) {
    if (i % 8 === 0 && last - i >= 7) {
      bits[i >>> 3] = 255;
      i += 8;
    } else {
      bits[i >>> 3] = bits[i >>> 3]! | (1 << (i & 7));
      i++;
    }
  }
}

function encodeDirectory(entries: readonly BitmapEntry[]): Uint8Array {
  const parts = entries.map((e) => {
    const name = encodeName(e.name);
    const out = new Uint8Array(Math.ceil((24 + e.extra.length + name.length) / 8) * 8);
    const v = S.BitmapStruct.at(out);
    v.tableOffset = e.tableOffset;
    v.tableSize = e.tableSize;
    v.flags = e.flags;
    v.type = e.type;
    v.granularityBits = e.granularityBits;
    v.nameSize = name.length;
    v.extraSize = e.extra.length;
    out.set(e.extra, 24);
    out.set(name, 24 + e.extra.length);
    return out;
  });
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
