import { WritableFileSource } from '../../block/file.js';
import type { ResizableSource, WritableSource } from '../../block/source.js';
import { GuestError, hex } from '../../core/errors.js';
import type { Place } from '../format.js';
import { compressedAt, DATA, find, hostRaw, plainKind, UNALLOCATED, UNALLOCATED_ALLOC, ZERO, ZERO_ALLOC } from './lookup.js';
import { Protection } from './protect.js';
import { readGuest } from './reader.js';
import type { Refcounts } from './refcounts.js';
import type { State } from './state.js';
import * as S from './structs.js';
import { writeSubclusters } from './subclusters.js';
import { Table } from './table.js';

const hiOf = (n: number) => Math.floor(n / 0x100000000);
const loOf = (n: number) => n % 0x100000000;
/** Partial clusters at the edges are joined with the middle into one write up to this size. */
const JOIN_BYTES = 2 << 20;

/**
 * Writing to the active disk: allocation, copy on write, zero and discard.  Tables change in memory; `writeBack` puts
 * them on disk in an order that leaves, after a crash between any two writes, at worst clusters that nobody uses.
 */
export class Writer {
  readonly protection: Protection;
  /** Told before guest data changes: dirty bitmaps. */
  tracker: { mark(offset: number, length: number): void } | undefined;
  /** Runs once, before the first change. */
  beforeFirstChange: () => void = () => {};
  /** Without barriers a power failure may reorder writes: for files that are thrown away if the job fails. */
  barriers = true;
  #prepared = false;
  #busy = false;

  constructor(
    readonly s: State,
    readonly refcounts: Refcounts,
  ) {
    this.protection = new Protection(s, refcounts);
    s.writeBack = () => this.writeBack();
  }

  prepare(): void {
    if (this.#prepared) return;
    this.#prepared = true;
    this.protection.build();
    this.beforeFirstChange();
  }

  get isPrepared(): boolean {
    return this.#prepared;
  }
  get target(): ResizableSource {
    return this.s.target;
  }
  get dataTarget(): WritableSource {
    if (!this.s.hasDataFile) return this.s.target;
    const d = this.s.dataFile as Partial<WritableSource>;
    if (typeof d.write !== 'function') throw new GuestError('read-only', 'the external data file is open for reading only');
    return this.s.dataFile as WritableSource;
  }
  /** The data file must be a valid raw image by itself. */
  get rawData(): boolean {
    return this.s.hasDataFile && (this.s.header.autoclear & S.AUTOCLEAR_RAW_DATA) !== 0n;
  }

  // ---- tables ----

  /** The L2 table at `index` of the active L1 table, private to it and ready to be changed. */
  l2ForWrite(index: number): Table {
    const { s, refcounts } = this;
    const at = s.l1.target(index);
    if (at !== 0 && s.l1.hi(index) & S.COPIED) return s.l2.get(at);
    const old = at === 0 ? undefined : s.l2.get(at);
    const { cluster } = refcounts.allocate(1);
    const t = new Table(old === undefined ? new Uint8Array(s.clusterSize) : old.bytes.slice(), cluster * s.clusterSize);
    if (old !== undefined && !s.hasDataFile) {
      // The table was shared with a snapshot, so all it points to is.
      const words = s.entryBytes / 8;
      for (let i = 0; i < s.l2Entries; i++) {
        const hi = t.hi(i * words);
        if (hi & S.COPIED) t.set(i * words, hi & ~S.COPIED, t.lo(i * words));
      }
    }
    t.touchAll();
    s.l2.add(t);
    s.l1.set(index, hiOf(t.offset) | S.COPIED, loOf(t.offset));
    this.protection.add(cluster);
    if (at !== 0) refcounts.freeLater(at, s.clusterSize);
    return t;
  }

  /** Enters a host cluster for a standard entry; what was there before is freed. */
  setCluster(t: Table, index: number, host: number, zero = false): void {
    const words = this.s.entryBytes / 8;
    const hi = t.hi(index * words);
    const lo = t.lo(index * words);
    t.set(index * words, hiOf(host) | S.COPIED, loOf(host) | (zero ? S.ZERO_FLAG : 0));
    this.dropEntry(hi, lo, host);
  }

  /** Frees what an old entry pointed to, unless that is `keep`. */
  dropEntry(hi: number, lo: number, keep: number): void {
    if (hi & S.COMPRESSED_FLAG) {
      const c = compressedAt(this.s, hi, lo);
      this.refcounts.freeLater(c.host, c.compressedBytes);
      this.s.decompressed.delete(c.host);
      return;
    }
    const host = hostRaw(hi, lo);
    if (host !== 0 && host !== keep && !this.s.hasDataFile) this.refcounts.freeLater(host, this.s.clusterSize);
  }

  /** Up to `count` host clusters for guest offset `guest`. */
  allocate(guest: number, count: number): { readonly host: number; readonly count: number } {
    if (this.s.hasDataFile) return { host: guest, count };
    const a = this.refcounts.allocate(count);
    return { host: a.cluster * this.s.clusterSize, count: a.count };
  }

  // ---- data ----

  write(from: Uint8Array, offset: number): void {
    if (from.length === 0) return;
    this.prepare();
    const { s } = this;
    if (s.cipher !== undefined && (offset % 512 !== 0 || from.length % 512 !== 0)) return this.#writeSectors(from, offset);
    this.tracker?.mark(offset, from.length);
    const span = s.clusterSize * s.l2Entries;
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const index = Math.floor(at / span);
      const n = Math.min(from.length - done, (index + 1) * span - at);
      const part = n === from.length ? from : from.subarray(done, done + n);
      const table = this.l2ForWrite(index);
      if (s.extended) writeSubclusters(this, table, part, at);
      else this.#writePlain(table, part, at);
      done += n;
    }
  }

  /** Encryption works on whole sectors. */
  #writeSectors(from: Uint8Array, offset: number): void {
    const start = offset - (offset % 512);
    const end = Math.min(this.s.header.size, Math.ceil((offset + from.length) / 512) * 512);
    const b = new Uint8Array(Math.ceil((end - start) / 512) * 512);
    readGuest(this.s, this.s.l1, b.subarray(0, end - start), start);
    b.set(from, offset - start);
    this.write(b, start);
  }

  #writePlain(table: Table, from: Uint8Array, offset: number): void {
    const { s } = this;
    const cs = s.clusterSize;
    const end = offset + from.length;
    for (let at = offset; at < end; ) {
      const cluster = Math.floor(at / cs);
      const start = cluster * cs;
      let index = cluster % s.l2Entries;
      const first = index;
      const way = this.#wayOf(table, index);
      const host = way === FRESH ? -1 : hostRaw(table.hi(index), table.lo(index));
      let count = 1;
      while (start + count * cs < end) {
        index++;
        if (this.#wayOf(table, index) !== way) break;
        if (way !== FRESH && hostRaw(table.hi(index), table.lo(index)) !== host + count * cs) break;
        count++;
      }
      if (way === IN_PLACE) {
        const stop = Math.min(end, start + count * cs);
        this.writeHost(from.subarray(at - offset, stop - offset), host + (at - start), at);
        at = stop;
        continue;
      }
      const got = way === FRESH ? this.allocate(start, count) : { host, count };
      const stop = Math.min(end, start + got.count * cs);
      this.writeFilled(from.subarray(at - offset, stop - offset), at, start, start + got.count * cs, got.host);
      for (let k = 0; k < got.count; k++) this.setCluster(table, first + k, got.host + k * cs);
      at = stop;
    }
  }

  #wayOf(table: Table, index: number): number {
    const hi = table.hi(index);
    if ((hi & S.COPIED) === 0) return FRESH;
    const kind = plainKind(this.s, hi, table.lo(index));
    return kind === DATA ? IN_PLACE : kind === ZERO_ALLOC ? REUSE : FRESH;
  }

  /**
   * Writes guest bytes `from` at `at` to `host` (that stands for guest offset `start`), with the rest of [start, end)
   * taken from what the guest sees there now.
   */
  writeFilled(from: Uint8Array, at: number, start: number, end: number, host: number): void {
    const stop = at + from.length;
    if (at === start && stop === end) return this.writeHost(from, host, start);
    if (end - start <= JOIN_BYTES) {
      const whole = new Uint8Array(end - start);
      this.#old(whole.subarray(0, at - start), start);
      whole.set(from, at - start);
      this.#old(whole.subarray(stop - start), stop);
      return this.writeHost(whole, host, start);
    }
    const cs = this.s.clusterSize;
    const middleFrom = Math.ceil(at / cs) * cs;
    const middleTo = Math.floor(stop / cs) * cs;
    if (at > start) this.writeFilled(from.subarray(0, middleFrom - at), at, start, middleFrom, host);
    if (middleTo > middleFrom)
      this.writeHost(from.subarray(middleFrom - at, middleTo - at), host + (middleFrom - start), middleFrom);
    if (stop < end) this.writeFilled(from.subarray(middleTo - at), middleTo, middleTo, end, host + (middleTo - start));
  }

  /** What the guest sees now; zeroes past the end of the disk. */
  #old(into: Uint8Array, at: number): void {
    if (into.length === 0) return;
    const inside = Math.max(0, Math.min(into.length, this.s.header.size - at));
    if (inside > 0) readGuest(this.s, this.s.l1, into.subarray(0, inside), at);
  }

  /** Bytes to a host offset, encrypted where the image is. */
  writeHost(from: Uint8Array, host: number, guest: number): void {
    if (from.length === 0) return;
    this.protection.refuseOverlap(host, from.length);
    if (this.s.cipher === undefined) return this.dataTarget.write(from, host);
    const b = from.slice();
    this.s.cipher.encrypt(b, (this.s.cipherByGuest ? guest : host) / 512);
    this.dataTarget.write(b, host);
  }

  // ---- places for native writes ----

  /** See `Image.placeForWrite`.  Whole clusters only: what a part of a new cluster leaves over would need copying. */
  place(offset: number, length: number): Place[] {
    const { s } = this;
    const places: Place[] = [];
    const file = this.s.hasDataFile ? this.s.dataFile : this.s.file;
    if (s.header.cryptMethod !== 0 || !(file instanceof WritableFileSource)) return [{ length, fd: -1, offset: 0 }];
    if (length > 0) this.prepare();
    const cs = s.clusterSize;
    const end = offset + length;
    const span = cs * s.l2Entries;
    const words = s.entryBytes / 8;
    for (let at = offset; at < end; ) {
      const start = at - (at % cs);
      const stop = Math.min(end, start + cs);
      const table = this.l2ForWrite(Math.floor(at / span));
      const first = (start / cs) % s.l2Entries;
      const room = Math.min(s.l2Entries - first, Math.ceil((end - start) / cs));
      const whole = (k: number) => (k > 0 || at === start) && (start + (k + 1) * cs <= end || end === s.header.size);
      const way = this.#placeWay(table, first);
      const host = way === FRESH ? -1 : hostRaw(table.hi(first * words), table.lo(first * words));
      if (way !== IN_PLACE && !whole(0)) {
        places.push({ length: stop - at, fd: -1, offset: 0 });
        at = stop;
        continue;
      }
      let count = 1;
      for (; count < room; count++) {
        const i = (first + count) * words;
        if (this.#placeWay(table, first + count) !== way || (way !== IN_PLACE && !whole(count))) break;
        if (way !== FRESH && hostRaw(table.hi(i), table.lo(i)) !== host + count * cs) break;
      }
      const got = way === FRESH ? this.allocate(start, count) : { host, count };
      const n = Math.min(end, start + got.count * cs) - at;
      this.protection.refuseOverlap(got.host, got.count * cs);
      this.tracker?.mark(at, n);
      const tail = got.host + (at - start) + n;
      const hostEnd = got.host + got.count * cs;
      // The disk's last cluster may be short; what is behind it in an old place of the file must not stay.
      if (way !== IN_PLACE && tail < hostEnd && tail < file.size)
        file.write(new Uint8Array(Math.min(hostEnd, file.size) - tail), tail);
      const fd = file.reserve(got.host, got.count * cs);
      if (way !== IN_PLACE)
        for (let k = 0; k < got.count; k++) {
          this.setCluster(table, first + k, got.host + k * cs);
          if (s.extended) table.set((first + k) * 2 + 1, 0, 0xffffffff);
        }
      places.push({ length: n, fd, offset: got.host + (at - start) });
      at += n;
    }
    return places;
  }

  #placeWay(table: Table, index: number): number {
    if (!this.s.extended) return this.#wayOf(table, index);
    const hi = table.hi(index * 2);
    if ((hi & S.COPIED) === 0 || hi & S.COMPRESSED_FLAG || hostRaw(hi, table.lo(index * 2)) === 0) return FRESH;
    return table.lo(index * 2 + 1) === 0xffffffff ? IN_PLACE : REUSE;
  }

  // ---- compressed ----

  /** As `writeCompressedData` for many clusters: neighbours in the file go there in one write. */
  writeCompressedMany(clusters: readonly { readonly offset: number; readonly data: Uint8Array }[]): void {
    const stage = new Uint8Array(clusters.reduce((n, c) => n + c.data.length, 0));
    let from = 0;
    let used = 0;
    let base = -1;
    const put = () => {
      if (used > from) this.target.write(stage.subarray(from, used), base);
      from = used;
    };
    for (const c of clusters)
      this.#enterCompressed(c.offset, c.data, (host) => {
        if (host !== base + (used - from)) {
          put();
          base = host;
        }
        stage.set(c.data, used);
        used += c.data.length;
      });
    put();
    this.#padLast();
  }

  /**
   * Enters a cluster that the caller has compressed.  `guest` is a cluster's start; the cluster must not be allocated
   * more than once in a run of calls (conversion), what it had before is freed.
   */
  writeCompressedData(guest: number, data: Uint8Array): void {
    this.#enterCompressed(guest, data, (host) => this.target.write(data, host));
    this.#padLast();
  }

  /** The last sector is read whole, so the file has to have it. */
  #padLast(): void {
    const end = Math.ceil(this.#packedAt / 512) * 512;
    if (this.s.file.size < end) this.target.resize(end);
  }

  #enterCompressed(guest: number, data: Uint8Array, put: (host: number) => void): void {
    const { s } = this;
    const cs = s.clusterSize;
    if (guest % cs !== 0 || guest >= s.header.size)
      throw new GuestError('usage', `compressed writes go to whole clusters, not to ${hex(guest)}`);
    if (s.hasDataFile) throw new GuestError('unsupported', 'an image with an external data file has no compressed clusters');
    if (s.header.cryptMethod !== 0) throw new GuestError('unsupported', 'an encrypted image has no compressed clusters');
    if (data.length === 0 || data.length > cs)
      throw new GuestError('usage', `${data.length} compressed bytes for a cluster of ${cs}`);
    this.prepare();
    this.tracker?.mark(guest, Math.min(cs, s.header.size - guest));
    const host = this.#packedRoom(data.length);
    this.protection.refuseOverlap(host, data.length);
    put(host);
    const end = Math.ceil((host + data.length) / 512) * 512;
    const sectors = end / 512 - Math.floor(host / 512) - 1;
    const shift = 38 - s.header.clusterBits;
    const cluster = guest / cs;
    const t = this.l2ForWrite(Math.floor(cluster / s.l2Entries));
    const words = s.entryBytes / 8;
    const index = (cluster % s.l2Entries) * words;
    const oldHi = t.hi(index);
    const oldLo = t.lo(index);
    if (hiOf(host) >= 2 ** shift)
      throw new GuestError('no-space', `compressed data at ${hex(host)} cannot be addressed with clusters of ${cs} bytes`);
    t.set(index, S.COMPRESSED_FLAG | (sectors * 2 ** shift) | hiOf(host), loOf(host));
    if (words === 2) t.set(index + 1, 0, 0);
    this.dropEntry(oldHi, oldLo, -1);
    s.decompressed.delete(host);
  }

  /** Where the last compressed cluster ended: the next one goes right behind it. */
  #packedAt = 0;
  #packedRoom(length: number): number {
    const cs = this.s.clusterSize;
    const used = this.#packedAt % cs;
    if (this.#packedAt !== 0 && used !== 0) {
      const inFirst = cs - used;
      const last = Math.floor(this.#packedAt / cs);
      if (length <= inFirst && this.refcounts.get(last) > 0 && this.refcounts.get(last) < this.refcounts.max) {
        const at = this.#packedAt;
        this.refcounts.add(last, 1);
        this.#packedAt += length;
        return at;
      }
      // Goes on in the next cluster when that follows directly and is free.
      if (
        length > inFirst &&
        this.refcounts.get(last) > 0 &&
        this.refcounts.get(last) < this.refcounts.max &&
        this.refcounts.takeIfFree(last + 1)
      ) {
        const at = this.#packedAt;
        this.refcounts.add(last, 1);
        this.#packedAt += length;
        return at;
      }
    }
    const { cluster } = this.refcounts.allocate(1);
    this.#packedAt = cluster * cs + length;
    return cluster * cs;
  }

  // ---- zero and discard ----

  zero(offset: number, length: number): void {
    if (length === 0) return;
    this.prepare();
    const { s } = this;
    if (this.rawData) return this.#zeroRawData(offset, length);
    this.tracker?.mark(offset, length);
    const unit = s.subclusterSize;
    const end = offset + length;
    // The disk's last cluster counts as whole when the request goes to the end.
    const from = Math.min(end, Math.ceil(offset / unit) * unit);
    const to =
      from % unit !== 0
        ? from
        : end === s.header.size
          ? Math.ceil(end / unit) * unit
          : Math.max(from, Math.floor(end / unit) * unit);
    if (from > offset) this.#zeroBytes(offset, Math.min(from, end));
    if (to > from) this.#zeroUnits(from, to);
    if (end > to && to >= from && to >= offset) this.#zeroBytes(Math.max(to, from), end);
  }

  /** Part of a cluster: written, unless it reads as zeroes already. */
  #zeroBytes(from: number, to: number): void {
    const { s } = this;
    for (let at = from; at < to; ) {
      const run = find(s, s.l1, at, to - at);
      if (!this.#readsZero(run.kind, at)) this.write(new Uint8Array(run.length), at);
      at += run.length;
    }
  }
  #readsZero(kind: number, at: number): boolean {
    if (kind === ZERO || kind === ZERO_ALLOC) return true;
    return (kind === UNALLOCATED || kind === UNALLOCATED_ALLOC) && (this.s.backing === undefined || at >= this.s.backing.size);
  }

  #zeroUnits(from: number, to: number): void {
    const { s } = this;
    if (s.header.version < 3 && s.backing !== undefined) {
      // Version 2 has no zero flag: zeroes over a backing file must be written.
      const z = new Uint8Array(Math.min(1 << 20, to - from));
      const end = Math.min(to, s.header.size);
      for (let at = from; at < end; at += z.length) this.write(z.subarray(0, Math.min(z.length, end - at)), at);
      return;
    }
    this.#eachCluster(from, to, (table, index, guest, first, count) => this.#zeroCluster(table, index, guest, first, count));
  }

  /** Zeroes subclusters [first, first+count) of a cluster (all of it without subclusters). */
  #zeroCluster(table: () => Table, index: number, guest: number, first: number, count: number): void {
    const { s } = this;
    const words = s.entryBytes / 8;
    const run = find(s, s.l1, guest, s.clusterSize);
    if (run.length >= s.clusterSize && run.kind === UNALLOCATED && this.#readsZero(run.kind, guest)) return;
    const t = table();
    const hi = t.hi(index * words);
    const lo = t.lo(index * words);
    if (!s.extended) {
      if (s.header.version < 3) t.set(index, 0, 0);
      else if (plainKind(s, hi, lo) === ZERO) return;
      else t.set(index, 0, S.ZERO_FLAG);
      return this.dropEntry(hi, lo, -1);
    }
    if (count === 32) {
      t.set(index * 2, 0, 0);
      t.set(index * 2 + 1, 0xffffffff, 0);
      return this.dropEntry(hi, lo, -1);
    }
    const mask = ((2 ** count - 1) * 2 ** first) >>> 0;
    if (hi & S.COMPRESSED_FLAG || ((hi & S.COPIED) === 0 && hostRaw(hi, lo) !== 0 && t.lo(index * 2 + 1) & mask)) {
      // A compressed or shared cluster: the general way makes a private one first.
      const at = guest + first * s.subclusterSize;
      return this.write(new Uint8Array(Math.min(count * s.subclusterSize, s.header.size - at)), at);
    }
    t.set(index * 2 + 1, t.hi(index * 2 + 1) | mask, t.lo(index * 2 + 1) & ~mask);
  }

  #zeroRawData(offset: number, length: number): void {
    const { s } = this;
    for (let at = offset; at < offset + length; ) {
      const run = find(s, s.l1, at, offset + length - at);
      if (run.kind === DATA) {
        this.tracker?.mark(at, run.length);
        this.dataTarget.zero(run.host, run.length);
        at += run.length;
      } else {
        const n = Math.min(run.length, 1 << 20);
        this.write(new Uint8Array(n), at);
        at += n;
      }
    }
  }

  /** Frees whole clusters.  `full`: they become unallocated even over a backing file (shrinking). */
  discard(offset: number, length: number, full = false): void {
    const { s } = this;
    const cs = s.clusterSize;
    const from = Math.ceil(offset / cs) * cs;
    const end = offset + length;
    const to = end === s.header.size ? Math.ceil(end / cs) * cs : Math.floor(end / cs) * cs;
    if (to <= from) return;
    if (this.rawData && !full) return this.zero(offset, length);
    if (s.header.version < 3 && s.backing !== undefined && !full) return;
    this.prepare();
    this.tracker?.mark(from, Math.min(to, s.header.size) - from);
    this.#eachCluster(from, to, (table, index, guest) => {
      const words = s.entryBytes / 8;
      const run = find(s, s.l1, guest, cs);
      if (run.kind === UNALLOCATED && run.length >= cs && (full || this.#readsZero(run.kind, guest))) return;
      if (run.kind === ZERO && run.length >= cs && !full) return;
      const t = table();
      const hi = t.hi(index * words);
      const lo = t.lo(index * words);
      if (full || s.header.version < 3) {
        t.set(index * words, 0, 0);
        if (words === 2) t.set(index * 2 + 1, 0, 0);
      } else if (words === 2) {
        t.set(index * 2, 0, 0);
        t.set(index * 2 + 1, 0xffffffff, 0);
      } else t.set(index, 0, S.ZERO_FLAG);
      this.dropEntry(hi, lo, -1);
    });
  }

  /** Calls `body` for each cluster of [from, to), which are multiples of the (sub)cluster size. */
  #eachCluster(
    from: number,
    to: number,
    body: (table: () => Table, index: number, guest: number, first: number, count: number) => void,
  ): void {
    const { s } = this;
    const cs = s.clusterSize;
    const span = cs * s.l2Entries;
    for (let at = from; at < to; ) {
      const l1Index = Math.floor(at / span);
      if (l1Index < s.l1.entries && s.l1.target(l1Index) === 0 && (s.backing === undefined || at >= s.backing.size)) {
        at = (l1Index + 1) * span;
        continue;
      }
      const start = at - (at % cs);
      const stop = Math.min(to, start + cs);
      const sub = s.subclusterSize;
      body(() => this.l2ForWrite(l1Index), (start / cs) % s.l2Entries, start, (at - start) / sub, (stop - at) / sub);
      at = stop;
    }
  }

  // ---- writing back ----

  get lazy(): boolean {
    return (this.s.header.compatible & S.COMPAT_LAZY) !== 0n && (this.s.header.incompatible & S.INCOMPAT_DIRTY) !== 0n;
  }
  #barrier(): void {
    if (!this.barriers) return;
    this.target.flush();
    if (this.s.hasDataFile) this.dataTarget.flush();
  }

  /** All metadata to the file: counts that rose, L2 tables, L1 table, counts that fell.  `all`: lazy refcounts too. */
  writeBack(all = false): void {
    const { s, refcounts } = this;
    if (this.#busy) {
      // Called from inside: only counts are being loaded then, and those are safe to write.
      refcounts.write();
      return;
    }
    this.#busy = true;
    try {
      const counts = all || !this.lazy;
      const l2Dirty = !s.l2.changed().next().done;
      if (counts && refcounts.dirty) {
        refcounts.write();
        if (l2Dirty || s.l1.dirty) this.#barrier();
      }
      if (l2Dirty) {
        for (const t of s.l2.changed()) t.writeTo(this.target);
        if (s.l1.dirty) this.#barrier();
      }
      if (s.l1.dirty) s.l1.writeTo(this.target);
      if (refcounts.hasPending) {
        this.#barrier();
        this.#release(refcounts.applyFrees());
        if (counts) refcounts.write();
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Clusters that nobody uses any more go back to the host, in runs. */
  #release(freed: number[]): void {
    if (freed.length === 0) return;
    freed.sort((a, b) => a - b);
    const cs = this.s.clusterSize;
    for (let i = 0; i < freed.length; ) {
      let k = i + 1;
      while (k < freed.length && freed[k] === freed[k - 1]! + 1) k++;
      this.target.discard?.(freed[i]! * cs, (k - i) * cs);
      i = k;
    }
    for (const c of freed) this.protection.delete(c);
    const packed = Math.floor(this.#packedAt / cs);
    if (freed.includes(packed)) this.#packedAt = 0;
  }

  flush(): void {
    this.writeBack();
    this.target.flush();
    if (this.s.hasDataFile) this.dataTarget.flush();
  }
}

const FRESH = 0;
const IN_PLACE = 1;
const REUSE = 2;
