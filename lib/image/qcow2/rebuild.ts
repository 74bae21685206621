import type { ResizableSource } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import { encodeHeader, type Header } from './header.js';
import { setRefcountAt } from './refcounts.js';
import { MAX_REFCOUNT_TABLE_BYTES } from './structs.js';
import { Table } from './table.js';

/**
 * Writes new refcount structures for `counts` behind all that is used, then points the header to them in one write: what
 * was there before stays valid until then, and is free afterwards because nothing counts it.
 */
export function rebuildRefcounts(
  file: ResizableSource,
  header: Header,
  /** References to a cluster below `clusters`. */
  count: (cluster: number) => number,
  clusters: number,
  order: number,
  barriers: boolean,
): void {
  const cs = 2 ** header.clusterBits;
  const perBlock = (cs * 8) / 2 ** order;
  const max = order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;
  const start = Math.max(clusters, Math.ceil(file.size / cs));
  const used = new Set<number>();
  for (let c = 0; c < clusters; c++) {
    if (count(c) === 0) continue;
    if (count(c) > max)
      throw new GuestError('unsupported', `a cluster is used ${count(c)} times, refcounts of ${2 ** order} bits count to ${max}`);
    used.add(Math.floor(c / perBlock));
  }
  // The structures count themselves: add blocks until they cover their own clusters.
  let tableClusters = 1;
  for (;;) {
    const total = used.size + tableClusters;
    const last = Math.floor((start + total - 1) / perBlock);
    const before = used.size;
    for (let b = Math.floor(start / perBlock); b <= last; b++) used.add(b);
    const needed = Math.max(1, Math.ceil(((last + 1) * 8) / cs));
    if (used.size === before && needed <= tableClusters) break;
    tableClusters = Math.max(tableClusters, needed);
  }
  if (tableClusters * cs > MAX_REFCOUNT_TABLE_BYTES)
    throw new GuestError(
      'no-space',
      `the refcount table would have ${tableClusters * cs} bytes (at most ${MAX_REFCOUNT_TABLE_BYTES})`,
    );
  const table = new Table(new Uint8Array(tableClusters * cs), start * cs);
  const total = used.size + tableClusters;
  let at = start + tableClusters;
  for (const index of [...used].sort((a, b) => a - b)) {
    const block = new Table(new Uint8Array(cs), at * cs);
    for (let i = 0; i < perBlock; i++) {
      const c = index * perBlock + i;
      const n = c >= start && c < start + total ? 1 : c < clusters ? count(c) : 0;
      if (n !== 0) setRefcountAt(block, order, i, n);
    }
    file.write(block.bytes, block.offset);
    table.set(index, Math.floor(block.offset / 0x100000000), block.offset % 0x100000000);
    at++;
  }
  file.write(table.bytes, table.offset);
  if (barriers) file.flush();
  header.refcountOrder = order;
  header.refcountTableOffset = table.offset;
  header.refcountTableClusters = tableClusters;
  file.write(encodeHeader(header), 0);
  if (barriers) file.flush();
}
