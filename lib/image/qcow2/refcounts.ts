import { corrupt, GuestError, hex } from '../../core/errors.js';
import { refcountTableFault } from './header.js';
import type { State } from './state.js';
import { MAX_REFCOUNT_TABLE_BYTES } from './structs.js';
import { readTable, Table, TableCache } from './table.js';

const CACHE_BYTES = 4 << 20;

/** Reads entry `i` of a refcount block of 2^order bits an entry. */
export function refcountAt(b: Uint8Array, view: DataView, order: number, i: number): number {
  switch (order) {
    case 0:
      return (b[i >>> 3]! >> (i & 7)) & 1;
    case 1:
      return (b[i >>> 2]! >> ((i & 3) * 2)) & 3;
    case 2:
      return (b[i >>> 1]! >> ((i & 1) * 4)) & 15;
    case 3:
      return b[i]!;
    case 4:
      return view.getUint16(i * 2);
    case 5:
      return view.getUint32(i * 4);
    default:
      return view.getUint32(i * 8) * 0x100000000 + view.getUint32(i * 8 + 4);
  }
}

/** Sets an entry; gives the byte range changed. */
export function setRefcountAt(t: Table, order: number, i: number, value: number): void {
  const b = t.bytes;
  if (order < 3) {
    const per = 8 >> order;
    const at = Math.floor(i / per);
    const shift = (i % per) << order;
    const mask = ((1 << (1 << order)) - 1) << shift;
    b[at] = (b[at]! & ~mask) | (value << shift);
    return t.touch(at, at + 1);
  }
  const width = 1 << (order - 3);
  const at = i * width;
  if (order === 3) b[at] = value;
  else if (order === 4) t.view.setUint16(at, value);
  else if (order === 5) t.view.setUint32(at, value);
  else {
    t.view.setUint32(at, Math.floor(value / 0x100000000));
    t.view.setUint32(at + 4, value % 0x100000000);
  }
  t.touch(at, at + width);
}

const maxOf = (order: number): number => (order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1);

/**
 * Reference counts of host clusters, and the allocator on top.  Counts that rise are in memory until `write`; counts that
 * fall wait until nothing on disk refers to the cluster any more (`applyFrees`, called after the L2 tables were written).
 */
export class Refcounts {
  order: number;
  /** Counts in one block. */
  perBlock: number;
  max: number;
  readonly blocks: TableCache;
  /** Says whether a cluster holds metadata: a count of 0 there is damage, and must not be believed. */
  guard: (cluster: number) => boolean = () => false;
  #table: Table | undefined;
  #moved = false;
  /** No free cluster below this one. */
  #next = 0;
  #pending = new Map<number, number>();

  constructor(private readonly s: State) {
    this.order = s.header.refcountOrder;
    this.perBlock = (s.clusterSize * 8) / 2 ** this.order;
    this.max = this.order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** this.order) - 1;
    this.blocks = new TableCache(s.file, s.clusterSize, CACHE_BYTES, 'refcount block', () => s.writeBack());
  }

  /** The refcount table, read by its first use. */
  get table(): Table {
    if (this.#table === undefined) {
      const fault = refcountTableFault(this.s.header);
      if (fault !== undefined) throw corrupt(fault);
      const length = this.s.header.refcountTableClusters * this.s.clusterSize;
      this.#table = readTable(this.s.file, this.s.header.refcountTableOffset, length, 'refcount table');
    }
    return this.#table;
  }
  /** Forgets everything read: the structures on disk were rebuilt. */
  reset(): void {
    this.order = this.s.header.refcountOrder;
    this.perBlock = (this.s.clusterSize * 8) / 2 ** this.order;
    this.max = maxOf(this.order);
    this.#table = undefined;
    this.#moved = false;
    this.#next = 0;
    this.#pending.clear();
    this.blocks.clear();
  }

  /** File offset of the block for `index`, 0 when there is none. */
  blockOffset(index: number): number {
    const t = this.table;
    if (index >= t.entries) return 0;
    const at = t.hi(index) * 0x100000000 + ((t.lo(index) & 0xfffffe00) >>> 0);
    if (at % this.s.clusterSize !== 0)
      throw corrupt(`refcount block ${index} at ${hex(at)} is not aligned to clusters`, { offset: at });
    return at;
  }

  get(cluster: number): number {
    const index = Math.floor(cluster / this.perBlock);
    const at = this.blockOffset(index);
    if (at === 0) return 0;
    const b = this.blocks.get(at);
    const n = refcountAt(b.bytes, b.view, this.order, cluster - index * this.perBlock);
    if (n > Number.MAX_SAFE_INTEGER) throw corrupt(`refcount of cluster ${cluster} is ${hex(BigInt(n))}`);
    return n;
  }

  set(cluster: number, value: number): void {
    const index = Math.floor(cluster / this.perBlock);
    let at = this.blockOffset(index);
    if (at === 0) {
      if (value === 0) return;
      this.#ensureBlock(index, cluster, cluster + 1);
      at = this.blockOffset(index);
    }
    setRefcountAt(this.blocks.get(at), this.order, cluster - index * this.perBlock, value);
    if (value === 0 && cluster < this.#next) this.#next = cluster;
  }

  add(cluster: number, delta: number): void {
    const n = this.get(cluster) + delta;
    if (n < 0) throw corrupt(`refcount of the cluster at ${hex(cluster * this.s.clusterSize)} would fall below 0`);
    if (n > this.max)
      throw new GuestError(
        'unsupported',
        `a cluster would be used ${n} times, refcounts of ${2 ** this.order} bits count to ${this.max}`,
      );
    this.set(cluster, n);
  }

  // ---- allocation ----

  #free(cluster: number): boolean {
    if (this.get(cluster) !== 0) return false;
    if (this.guard(cluster))
      throw corrupt(
        `the cluster at ${hex(cluster * this.s.clusterSize)} holds metadata, but its refcount is 0 (repair the image first)`,
      );
    return true;
  }

  /** The first free cluster at or after `from` that is not in [avoidFrom, avoidTo). */
  #firstFree(from: number, avoidFrom: number, avoidTo: number): number {
    let c = from;
    for (;;) {
      if (c >= avoidFrom && c < avoidTo) c = avoidTo;
      if (this.#free(c)) return c;
      c++;
    }
  }

  /** Up to `max` clusters in a row, at least one; they count 1. */
  allocate(max: number): { readonly cluster: number; readonly count: number } {
    const c = this.#firstFree(this.#next, 0, 0);
    let n = 1;
    while (n < max && this.#free(c + n)) n++;
    this.#take(c, n);
    this.#next = c + n;
    return { cluster: c, count: n };
  }

  /** Takes one cluster if it is free. */
  takeIfFree(cluster: number): boolean {
    if (!this.#free(cluster)) return false;
    this.#take(cluster, 1);
    return true;
  }

  /** Exactly `n` clusters in a row. */
  allocateExact(n: number): number {
    let c = this.#firstFree(this.#next, 0, 0);
    for (let k = 1; k < n; ) {
      if (this.#free(c + k)) k++;
      else {
        c = this.#firstFree(c + k + 1, 0, 0);
        k = 1;
      }
    }
    this.#take(c, n);
    return c;
  }

  #take(c: number, n: number): void {
    const last = Math.floor((c + n - 1) / this.perBlock);
    for (let index = Math.floor(c / this.perBlock); index <= last; index++)
      if (this.blockOffset(index) === 0) this.#ensureBlock(index, c, c + n);
    for (let k = 0; k < n; k++) this.set(c + k, 1);
  }

  /** Makes the block for `index` without using [from, to), which is being allocated. */
  #ensureBlock(index: number, from: number, to: number): void {
    if (index >= this.table.entries) this.#growTable(index + 1, from, to);
    while (this.blockOffset(index) === 0) {
      const p = this.#firstFree(this.#next, from, to);
      const home = Math.floor(p / this.perBlock);
      if (home >= this.table.entries) {
        this.#growTable(home + 1, from, to);
        continue;
      }
      // A block that no other block counts counts itself.
      const target = home !== index && this.blockOffset(home) === 0 ? home : index;
      const block = new Table(new Uint8Array(this.s.clusterSize), p * this.s.clusterSize);
      block.touchAll();
      this.blocks.add(block);
      if (this.s.file.size < block.offset + this.s.clusterSize) this.s.target.resize(block.offset + this.s.clusterSize);
      this.table.set(target, Math.floor(block.offset / 0x100000000), block.offset % 0x100000000);
      this.set(p, 1);
      this.onMetadata(p);
    }
  }
  /** Told of each cluster that becomes a refcount block or part of the table. */
  onMetadata: (cluster: number) => void = () => {};

  #growTable(entries: number, from: number, to: number): void {
    const cs = this.s.clusterSize;
    const old = this.table;
    const wanted = Math.max(entries, Math.floor(old.entries * 1.5)) + 2;
    // The new table's own clusters need counting too.
    const clusters = Math.ceil(((wanted + Math.ceil((wanted * 8) / cs / this.perBlock) + 2) * 8) / cs);
    if (clusters * cs > MAX_REFCOUNT_TABLE_BYTES)
      throw new GuestError(
        'no-space',
        `the image would need a refcount table of ${clusters * cs} bytes (at most ${MAX_REFCOUNT_TABLE_BYTES})`,
      );
    const next = new Table(new Uint8Array(clusters * cs), 0);
    next.bytes.set(old.bytes);
    next.touchAll();
    this.#table = next;
    let c = this.#firstFree(Math.max(this.#next, to), from, to);
    for (let k = 1; k < clusters; )
      if (this.#free(c + k)) k++;
      else {
        c = this.#firstFree(c + k + 1, from, to);
        k = 1;
      }
    next.offset = c * cs;
    this.#moved = true;
    const lowest = Math.min(from, c);
    const highest = Math.max(to, c + clusters);
    for (let index = Math.floor(c / this.perBlock); index <= Math.floor((c + clusters - 1) / this.perBlock); index++)
      if (this.blockOffset(index) === 0) this.#ensureBlock(index, lowest, highest);
    for (let k = 0; k < clusters; k++) {
      this.set(c + k, 1);
      this.onMetadata(c + k);
    }
    this.freeLater(old.offset, old.bytes.length);
  }

  // ---- freeing and writing ----

  /** Drops one reference to each cluster of a byte range of the file, once nothing on disk refers to it. */
  freeLater(offset: number, length: number): void {
    const first = Math.floor(offset / this.s.clusterSize);
    const end = Math.ceil((offset + length) / this.s.clusterSize);
    for (let c = first; c < end; c++) this.#pending.set(c, (this.#pending.get(c) ?? 0) + 1);
  }
  get hasPending(): boolean {
    return this.#pending.size > 0;
  }

  /** Applies the frees; gives the clusters that nobody uses now. */
  applyFrees(): number[] {
    const pending = this.#pending;
    this.#pending = new Map();
    const freed: number[] = [];
    for (const [cluster, n] of pending) {
      this.add(cluster, -n);
      if (this.get(cluster) === 0) freed.push(cluster);
    }
    return freed;
  }

  get dirty(): boolean {
    return this.#table?.dirty === true || !this.blocks.changed().next().done;
  }

  /** Writes blocks, then the table, then the header if the table moved. */
  write(): void {
    const file = this.s.target;
    for (const b of this.blocks.changed()) b.writeTo(file);
    if (this.#table?.dirty) this.#table.writeTo(file);
    if (this.#moved) {
      this.#moved = false;
      this.s.header.refcountTableOffset = this.table.offset;
      this.s.header.refcountTableClusters = this.table.bytes.length / this.s.clusterSize;
      this.s.writeHeader();
    }
  }
}
