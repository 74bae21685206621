import { corrupt, GuestError, hex } from '../../core/errors.js';
import type { CheckResult, Problem } from '../format.js';
import { readBitmapDirectory } from './bitmap-table.js';
import { extensionOf, refcountTableFault } from './header.js';
import { COMPRESSED, compressedAt, hostRaw, plainKind, UNALLOCATED, ZERO } from './lookup.js';
import { type Refcounts, refcountAt } from './refcounts.js';
import { readSnapshots, snapshotL1 } from './snapshot-table.js';
import type { State } from './state.js';
import { COMPRESSED_FLAG, COPIED, CryptExtension, EXT_CRYPT } from './structs.js';
import { readTable, type Table } from './table.js';

/** Host clusters that can be counted in memory. */
const MAX_CLUSTERS = 1 << 28;
/** Problems kept with their text; all are counted. */
const MAX_PROBLEMS = 1000;

/**
 * References to each host cluster, a byte each: few clusters have 255 or more (deep snapshot trees), those are in a map.
 * A terabyte of 64 KiB clusters takes 16 MiB.
 */
export class ClusterCounts {
  #bytes = new Uint8Array(1024);
  readonly #many = new Map<number, number>();
  get(cluster: number): number {
    const n = this.#bytes[cluster] ?? 0;
    return n < 255 ? n : (this.#many.get(cluster) ?? 255);
  }
  set(cluster: number, count: number): void {
    this.#bytes[cluster] = Math.min(255, count);
    if (count >= 255) this.#many.set(cluster, count);
    else this.#many.delete(cluster);
  }
  add(cluster: number): void {
    const n = this.#bytes[cluster]!;
    if (n < 254) this.#bytes[cluster] = n + 1;
    else this.set(cluster, this.get(cluster) + 1);
  }
  /** Room for that many clusters; a little more than asked, as the file grows under a repair. */
  reserve(clusters: number): void {
    if (clusters <= this.#bytes.length) return;
    const next = new Uint8Array(Math.ceil(clusters * 1.05) + 1024);
    next.set(this.#bytes);
    this.#bytes = next;
  }
}

/** What a walk over all references found. */
export class Tally {
  readonly counts = new ClusterCounts();
  clusters = 0;
  problems: Problem[] = [];
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  allocated = 0;
  fragmented = 0;
  compressed = 0;
  imageEnd = 0;
  /** The refcount table or a block cannot be used as it is. */
  refcountsBroken = false;
  /** Counts that are too low, too high. */
  readonly tooLow: number[] = [];
  readonly tooHigh: number[] = [];
  /** Stale "refcount is one" flags were seen. */
  staleFlags = false;
  corruptionsFixed = 0;
  leaksFixed = 0;

  constructor(private readonly s: State) {
    this.grow(Math.ceil(s.file.size / s.clusterSize));
  }
  grow(clusters: number): void {
    if (clusters > MAX_CLUSTERS)
      throw new GuestError('unsupported', `an image of ${clusters} clusters cannot be checked (at most ${MAX_CLUSTERS})`);
    this.counts.reserve(clusters);
    if (clusters > this.clusters) this.clusters = clusters;
  }
  add(kind: 'leak' | 'corruption', offset: number, length: number, message: string): void {
    if (kind === 'leak') this.leaks++;
    else this.corruptions++;
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ kind, at: { offset, length }, message });
  }
  /** Counts one reference to the clusters of a byte range; false when it lies past the end of the file. */
  use(offset: number, length: number, what: string): boolean {
    if (length <= 0) return true;
    const cs = this.s.clusterSize;
    if (offset + length > this.s.file.size + cs || offset > this.s.file.size) {
      this.add(
        'corruption',
        offset,
        length,
        `${what} at ${hex(offset)} is past the end of the file (size ${hex(this.s.file.size)})`,
      );
      return false;
    }
    const first = Math.floor(offset / cs);
    const last = Math.floor((offset + length - 1) / cs);
    this.grow(last + 1);
    for (let c = first; c <= last; c++) this.counts.add(c);
    return true;
  }
  result(): CheckResult {
    return {
      problems: this.problems,
      corruptions: this.corruptions,
      leaks: this.leaks,
      corruptionsFixed: this.corruptionsFixed,
      leaksFixed: this.leaksFixed,
      checkErrors: this.checkErrors,
      imageEnd: this.imageEnd,
      totalClusters: Math.ceil(this.s.header.size / this.s.clusterSize),
      allocatedClusters: this.allocated,
      fragmentedClusters: this.fragmented,
      compressedClusters: this.compressed,
    };
  }
}

/** Structure check: every reference is counted and compared with the stored counts, as `qemu-img check` does. */
export function check(s: State, refcounts: Refcounts): Tally {
  const t = countReferences(s);
  walkRefcounts(t, s, refcounts);
  compare(t, s, refcounts);
  if (!t.refcountsBroken) attempt(t, 'L1 table', 0, () => checkFlags(t, s, refcounts));
  return t;
}

/** References to each cluster by everything but the refcount structures themselves. */
export function countReferences(s: State): Tally {
  const t = new Tally(s);
  t.use(0, s.clusterSize, 'header');
  walkL1(t, s, s.l1, s.header.l1Offset, 'L1 table', true);
  attempt(t, 'snapshot table', s.header.snapshotsOffset, () => {
    const { snapshots, bytes } = readSnapshots(s);
    for (const x of snapshots)
      attempt(t, `L1 table of snapshot "${x.name}"`, x.l1Offset, () =>
        walkL1(t, s, snapshotL1(s, x), x.l1Offset, `L1 table of snapshot "${x.name}"`, false),
      );
    t.use(s.header.snapshotsOffset, bytes, 'snapshot table');
  });
  const crypt = extensionOf(s.header, EXT_CRYPT);
  if (crypt !== undefined && s.header.cryptMethod === 2) {
    const e = CryptExtension.at(crypt);
    attempt(t, 'LUKS header', 0, () => t.use(e.offset, e.length, 'LUKS header'));
  }
  attempt(t, 'bitmaps', 0, () => walkBitmaps(t, s));
  return t;
}

/** A part that cannot be read is one corruption; the check goes on. */
function attempt(t: Tally, what: string, offset: number, body: () => void): void {
  try {
    body();
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'unsupported' || e.code === 'io') throw e;
    t.add('corruption', offset, 0, `${what}: ${e.message}`);
  }
}

const reservedL1 = (hi: number, lo: number) => (hi & 0x7f000000) !== 0 || (lo & 0x1ff) !== 0;

function walkL1(t: Tally, s: State, l1: Table, offset: number, what: string, active: boolean): void {
  if (!t.use(offset, l1.bytes.length, what)) return;
  for (let i = 0; i < l1.entries; i++) {
    const at = l1.target(i);
    if (reservedL1(l1.hi(i), l1.lo(i)))
      t.add(
        'corruption',
        offset + i * 8,
        8,
        `${what} entry ${i} has reserved bits set: ${hex((BigInt(l1.hi(i)) << 32n) | BigInt(l1.lo(i)))}`,
      );
    if (at === 0) continue;
    t.use(at, s.clusterSize, 'L2 table');
    if (at % s.clusterSize !== 0) {
      t.add('corruption', at, 8, `L2 table at ${hex(at)} is not aligned to clusters`);
      continue;
    }
    attempt(t, 'L2 table', at, () => walkL2(t, s, s.l2.peek(at), i, active));
  }
}

function walkL2(t: Tally, s: State, table: Table, l1Index: number, active: boolean): void {
  const words = s.entryBytes / 8;
  const cs = s.clusterSize;
  let next = 0;
  for (let i = 0; i < s.l2Entries; i++) {
    const hi = table.hi(i * words);
    const lo = table.lo(i * words);
    if (hi === 0 && lo === 0 && words === 1) continue;
    const at = table.offset + i * s.entryBytes;
    if (hi & COMPRESSED_FLAG) {
      if (hi & COPIED) t.add('corruption', at, 8, `compressed cluster entry at ${hex(at)} has the "refcount is one" flag`);
      if (s.hasDataFile) {
        t.add('corruption', at, 8, `compressed cluster entry at ${hex(at)} in an image with an external data file`);
        continue;
      }
      const c = compressedAt(s, hi, lo);
      // The stored length is in whole sectors; the last of them need not be in the file.
      t.use(c.host, Math.max(1, Math.min(c.compressedBytes, s.file.size - c.host)), 'compressed cluster');
      if (active) {
        t.allocated++;
        t.compressed++;
        t.fragmented++;
      }
      continue;
    }
    const kind = words === 1 ? plainKind(s, hi, lo) : extendedKind(t, s, table, i, at);
    if (words === 1 && ((hi & 0x3f000000) !== 0 || (lo & 0x1fe) !== 0 || (s.header.version < 3 && lo & 1)))
      t.add('corruption', at, 8, `L2 entry at ${hex(at)} has reserved bits set: ${hex((BigInt(hi) << 32n) | BigInt(lo))}`);
    if (kind === UNALLOCATED || kind === ZERO || kind === COMPRESSED) continue;
    const host = hostRaw(hi, lo);
    if (host % cs !== 0) {
      t.add('corruption', at, 8, `data cluster at ${hex(host)} is not aligned to clusters`);
      continue;
    }
    if (active) {
      t.allocated++;
      if (next !== 0 && host !== next) t.fragmented++;
      next = host + cs;
    }
    const guest = (l1Index * s.l2Entries + i) * cs;
    if (!s.hasDataFile) t.use(host, cs, 'data cluster');
    else if (host !== guest)
      t.add('corruption', at, 8, `guest offset ${hex(guest)} is at ${hex(host)} of the external data file (must be the same)`);
  }
}

function extendedKind(t: Tally, s: State, table: Table, i: number, at: number): number {
  const hi = table.hi(i * 2);
  const lo = table.lo(i * 2);
  const zero = table.hi(i * 2 + 1);
  const alloc = table.lo(i * 2 + 1);
  const hasHost = hostRaw(hi, lo) !== 0 || (s.hasDataFile && (hi & COPIED) !== 0);
  if ((zero & alloc) !== 0) t.add('corruption', at, 16, `L2 entry at ${hex(at)} has subclusters both allocated and zero`);
  else if (!hasHost && alloc !== 0)
    t.add('corruption', at, 16, `L2 entry at ${hex(at)} has allocated subclusters, but no cluster`);
  if ((hi & 0x3f000000) !== 0 || (lo & 0x1ff) !== 0) t.add('corruption', at, 16, `L2 entry at ${hex(at)} has reserved bits set`);
  return hasHost ? 3 : UNALLOCATED;
}

function walkBitmaps(t: Tally, s: State): void {
  const d = readBitmapDirectory(s);
  if (d === undefined) return;
  t.use(d.offset, d.bytes, 'bitmap directory');
  for (const e of d.entries) {
    t.use(e.tableOffset, e.tableSize * 8, `table of bitmap "${e.name}"`);
    attempt(t, `bitmap "${e.name}"`, e.tableOffset, () => {
      const table = readTable(s.file, e.tableOffset, e.tableSize * 8, `table of bitmap "${e.name}"`);
      for (let i = 0; i < table.entries; i++) {
        const at = table.target(i);
        if (at === 0) continue;
        if (at % s.clusterSize !== 0)
          t.add('corruption', at, 8, `data of bitmap "${e.name}" at ${hex(at)} is not aligned to clusters`);
        else t.use(at, s.clusterSize, `data of bitmap "${e.name}"`);
      }
    });
  }
}

function walkRefcounts(t: Tally, s: State, refcounts: Refcounts): void {
  const fault = refcountTableFault(s.header);
  let table: Table;
  try {
    if (fault !== undefined) throw corrupt(fault);
    table = refcounts.table;
  } catch (e) {
    if (!(e instanceof GuestError) || e.code !== 'corrupt') throw e;
    t.refcountsBroken = true;
    t.add('corruption', s.header.refcountTableOffset, 0, e.message);
    return;
  }
  t.use(table.offset, table.bytes.length, 'refcount table');
  for (let i = 0; i < table.entries; i++) {
    const at = table.hi(i) * 0x100000000 + table.lo(i);
    if (at === 0) continue;
    if (at % s.clusterSize !== 0 || at + s.clusterSize > s.file.size) {
      t.refcountsBroken = true;
      const why =
        at % s.clusterSize !== 0 ? 'is not aligned to clusters' : `is past the end of the file (size ${hex(s.file.size)})`;
      t.add('corruption', at, s.clusterSize, `refcount block ${i} at ${hex(at)} ${why}`);
      continue;
    }
    t.use(at, s.clusterSize, 'refcount block');
    if (t.counts.get(at / s.clusterSize) !== 1) {
      t.refcountsBroken = true;
      t.add(
        'corruption',
        at,
        s.clusterSize,
        `refcount block ${i} at ${hex(at)} is used ${t.counts.get(at / s.clusterSize)} times`,
      );
    }
  }
}

function compare(t: Tally, s: State, refcounts: Refcounts): void {
  const cs = s.clusterSize;
  let highest = -1;
  const one = (cluster: number, stored: number) => {
    const used = cluster < t.clusters ? t.counts.get(cluster) : 0;
    if (stored !== 0 || used !== 0) highest = cluster;
    if (stored === used) return;
    const message = `cluster at ${hex(cluster * cs)} is used ${used} times, its refcount is ${stored}`;
    if (stored < used) {
      t.tooLow.push(cluster);
      t.add('corruption', cluster * cs, cs, message);
    } else {
      t.tooHigh.push(cluster);
      t.add('leak', cluster * cs, cs, message);
    }
  };
  if (t.refcountsBroken) {
    // What is stored cannot be trusted; only the structure faults are reported, as a rebuild repairs all at once.
    for (let c = 0; c < t.clusters; c++) if (t.counts.get(c) !== 0) highest = c;
    t.imageEnd = (highest + 1) * cs;
    return;
  }
  // Counts past the end of the file mean nothing: QEMU drops them too.
  const blocks = Math.ceil(t.clusters / refcounts.perBlock);
  for (let i = 0; i < blocks; i++) {
    const at = refcounts.blockOffset(i);
    const b = at === 0 ? undefined : refcounts.blocks.peek(at);
    const start = i * refcounts.perBlock;
    const end = Math.min(t.clusters, start + refcounts.perBlock);
    for (let c = start; c < end; c++) one(c, b === undefined ? 0 : refcountAt(b.bytes, b.view, refcounts.order, c - start));
  }
  t.imageEnd = (highest + 1) * cs;
}

/** "Refcount is exactly one" flags of the active tables. */
function checkFlags(t: Tally, s: State, refcounts: Refcounts): void {
  const words = s.entryBytes / 8;
  const wrong = (at: number, count: number, flag: boolean, what: string) => {
    t.staleFlags = true;
    t.add(
      'corruption',
      at,
      8,
      `${what} entry at ${hex(at)}: refcount is ${count}, but the flag for "one" is ${flag ? 'set' : 'clear'}`,
    );
  };
  for (let i = 0; i < s.l1.entries; i++) {
    const l2 = s.l1.target(i);
    if (l2 === 0 || l2 % s.clusterSize !== 0 || l2 + s.clusterSize > s.file.size) continue;
    const n = refcounts.get(l2 / s.clusterSize);
    const flag = (s.l1.hi(i) & COPIED) !== 0;
    if ((n === 1) !== flag) wrong(s.header.l1Offset + i * 8, n, flag, 'L1');
    const table = s.l2.peek(l2);
    for (let k = 0; k < s.l2Entries; k++) {
      const hi = table.hi(k * words);
      if (hi & COMPRESSED_FLAG) continue;
      const lo = table.lo(k * words);
      const host = hostRaw(hi, lo);
      if (s.hasDataFile) {
        if (host !== 0 && (hi & COPIED) === 0) wrong(l2 + k * s.entryBytes, 1, false, 'L2');
        continue;
      }
      if (host === 0 || host % s.clusterSize !== 0) continue;
      const count = refcounts.get(host / s.clusterSize);
      if ((count === 1) !== ((hi & COPIED) !== 0)) wrong(l2 + k * s.entryBytes, count, (hi & COPIED) !== 0, 'L2');
    }
  }
}
