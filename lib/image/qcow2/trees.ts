import { corrupt, GuestError, hex } from '../../core/errors.js';
import { compressedAt, hostRaw } from './lookup.js';
import type { Refcounts } from './refcounts.js';
import type { State } from './state.js';
import { COMPRESSED_FLAG, COPIED } from './structs.js';
import type { Table } from './table.js';

/** Calls `body` with the byte range of every host cluster that an L1 table's tree uses: L2 tables and data. */
export function eachReference(s: State, l1: Table, body: (offset: number, length: number) => void): void {
  const words = s.entryBytes / 8;
  const end = Math.ceil(s.file.size / s.clusterSize) * s.clusterSize;
  const inside = (offset: number, length: number) => {
    if (offset + length > end)
      throw corrupt(`a cluster at ${hex(offset)} is referred to, past the end of the file (size ${hex(s.file.size)})`, {
        offset,
      });
    body(offset, length);
  };
  for (let i = 0; i < l1.entries; i++) {
    const at = l1.target(i);
    if (at === 0) continue;
    if (at % s.clusterSize !== 0) throw corrupt(`L2 table at ${hex(at)} is not aligned to clusters`, { offset: at });
    inside(at, s.clusterSize);
    const t = s.l2.get(at);
    if (s.hasDataFile) continue;
    for (let k = 0; k < s.l2Entries; k++) {
      const hi = t.hi(k * words);
      const lo = t.lo(k * words);
      if (hi & COMPRESSED_FLAG) {
        const c = compressedAt(s, hi, lo);
        inside(c.host, c.compressedBytes);
        continue;
      }
      const host = hostRaw(hi, lo);
      if (host === 0) continue;
      if (host % s.clusterSize !== 0) throw corrupt(`data cluster at ${hex(host)} is not aligned to clusters`, { offset: host });
      inside(host, s.clusterSize);
    }
  }
}

const eachCluster = (s: State, offset: number, length: number, body: (cluster: number) => void) => {
  const end = Math.ceil((offset + length) / s.clusterSize);
  for (let c = Math.floor(offset / s.clusterSize); c < end; c++) body(c);
};

/** Throws when narrow counts have no room for one more reference to all of a tree: before anything is changed. */
export function checkRoom(s: State, refcounts: Refcounts, l1: Table): void {
  if (refcounts.order >= 4) return;
  const extra = new Map<number, number>();
  eachReference(s, l1, (offset, length) =>
    eachCluster(s, offset, length, (c) => {
      const n = (extra.get(c) ?? 0) + 1;
      extra.set(c, n);
      if (refcounts.get(c) + n > refcounts.max)
        throw new GuestError(
          'unsupported',
          `refcounts of ${2 ** refcounts.order} bits count to ${refcounts.max}: no further snapshot is possible`,
        );
    }),
  );
}

/** One more reference to all of a tree. */
export function shareTree(s: State, refcounts: Refcounts, l1: Table): void {
  eachReference(s, l1, (offset, length) => eachCluster(s, offset, length, (c) => refcounts.add(c, 1)));
}

/** One reference less, once nothing on disk refers to the tree. */
export function dropTree(s: State, refcounts: Refcounts, l1: Table): void {
  eachReference(s, l1, (offset, length) => refcounts.freeLater(offset, length));
}

/** Sets the "refcount is one" flags of a tree: all clear, or by the counts. */
export function updateFlags(s: State, refcounts: Refcounts, l1: Table, how: 'clear' | 'by count'): number {
  const words = s.entryBytes / 8;
  let changed = 0;
  const wanted = (offset: number) => (how === 'clear' ? 0 : refcounts.get(offset / s.clusterSize) === 1 ? COPIED : 0);
  for (let i = 0; i < l1.entries; i++) {
    const at = l1.target(i);
    if (at === 0 || at % s.clusterSize !== 0 || at + s.clusterSize > Math.max(s.file.size, s.l2.has(at) ? at + s.clusterSize : 0))
      continue;
    const flag = wanted(at);
    if ((l1.hi(i) & COPIED) !== (flag | 0)) {
      l1.set(i, (l1.hi(i) & ~COPIED) | flag, l1.lo(i));
      changed++;
    }
    const t = s.l2.get(at);
    for (let k = 0; k < s.l2Entries; k++) {
      const hi = t.hi(k * words);
      const lo = t.lo(k * words);
      const compressed = (hi & COMPRESSED_FLAG) !== 0;
      const host = hostRaw(hi, lo);
      if (!compressed && !s.hasDataFile && host % s.clusterSize !== 0) continue;
      const want = compressed ? 0 : s.hasDataFile ? (host !== 0 ? COPIED : hi & COPIED) : host === 0 ? 0 : wanted(host);
      if ((hi & COPIED) !== (want | 0)) {
        t.set(k * words, (hi & ~COPIED) | want, lo);
        changed++;
      }
    }
  }
  return changed;
}
