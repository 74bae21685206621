import { hostRaw } from './lookup.js';
import { COMPRESSED_FLAG, COPIED } from './structs.js';
import type { Table } from './table.js';
import type { Writer } from './writer.js';

const ALL = 0xffffffff;
const maskOf = (first: number, last: number): number => ((2 ** (last - first + 1) - 1) * 2 ** first) >>> 0;

/** Writes into a table of extended entries: only the subclusters touched are allocated. */
export function writeSubclusters(w: Writer, t: Table, from: Uint8Array, offset: number): void {
  const { s } = w;
  const cs = s.clusterSize;
  const end = offset + from.length;
  for (let at = offset; at < end; ) {
    const cluster = Math.floor(at / cs);
    const start = cluster * cs;
    const index = cluster % s.l2Entries;
    const fresh = countFresh(w, t, index, at, start, end);
    if (fresh > 0) {
      const got = w.allocate(start, fresh);
      w.writeHost(from.subarray(at - offset, at - offset + got.count * cs), got.host, start);
      for (let k = 0; k < got.count; k++) {
        w.setCluster(t, index + k, got.host + k * cs);
        t.set((index + k) * 2 + 1, 0, ALL);
      }
      at = start + got.count * cs;
      continue;
    }
    const stop = Math.min(end, start + cs);
    writeOne(w, t, index, from.subarray(at - offset, stop - offset), at, start);
    at = stop;
  }
}

/** Whole clusters from `at` on that need a new host cluster and keep nothing of the old one. */
function countFresh(w: Writer, t: Table, index: number, at: number, start: number, end: number): number {
  const cs = w.s.clusterSize;
  if (at !== start) return 0;
  let n = 0;
  while (start + (n + 1) * cs <= end && (t.hi((index + n) * 2) & COPIED) === 0) n++;
  return n;
}

function writeOne(w: Writer, t: Table, index: number, from: Uint8Array, at: number, start: number): void {
  const { s } = w;
  const sub = s.subclusterSize;
  const hi = t.hi(index * 2);
  const lo = t.lo(index * 2);
  const compressed = (hi & COMPRESSED_FLAG) !== 0;
  const alloc = compressed ? ALL : t.lo(index * 2 + 1);
  const zero = compressed ? 0 : t.hi(index * 2 + 1);
  const stop = at + from.length;
  let first = Math.floor((at - start) / sub);
  let last = Math.floor((stop - 1 - start) / sub);
  const touched = maskOf(first, last);
  const mine = (hi & COPIED) !== 0 && !compressed;
  if (mine && (touched & ~alloc) === 0) return w.writeHost(from, hostRaw(hi, lo) + (at - start), at);
  if (!mine) {
    // A new cluster takes over all that the old one had allocated.
    const kept = (alloc | touched) >>> 0;
    while (first > 0 && kept & (2 ** first - 1)) first--;
    while (last < 31 && kept >>> (last + 1)) last++;
  }
  const host = mine ? hostRaw(hi, lo) : w.allocate(start, 1).host;
  // Edges that are allocated already in a cluster of ours need not be copied onto themselves.
  const from0 = mine && alloc & (1 << first) ? at : start + first * sub;
  const to0 = mine && alloc & (1 << last) ? stop : start + (last + 1) * sub;
  w.writeFilled(from, at, from0, to0, host + (from0 - start));
  if (!mine) {
    t.set(index * 2, Math.floor(host / 0x100000000) | COPIED, host % 0x100000000);
    w.dropEntry(hi, lo, host);
  }
  t.set(index * 2 + 1, zero & ~touched, alloc | touched);
}
