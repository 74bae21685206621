import { usage } from '../../core/errors.js';
import { MAX_L1_BYTES } from './structs.js';
import { Table } from './table.js';
import type { Writer } from './writer.js';

/** A copy of an L1 table with `entries` entries, not on disk yet. */
export function readTableCopy(t: Table, entries: number): Table {
  const bytes = new Uint8Array(entries * 8);
  bytes.set(t.bytes.subarray(0, bytes.length));
  return new Table(bytes, 0);
}

/** Makes the active L1 table cover `size` bytes; the header switches over in one write. */
export function growL1(w: Writer, size: number): void {
  const { s, refcounts } = w;
  const needed = Math.ceil(size / (s.clusterSize * s.l2Entries));
  if (needed <= s.l1.entries) return;
  if (needed * 8 > MAX_L1_BYTES)
    throw usage(
      `a disk of ${size} bytes is too large for clusters of ${s.clusterSize} bytes (at most ${(MAX_L1_BYTES / 8) * s.l2Entries * s.clusterSize})`,
    );
  w.writeBack();
  const old = s.l1;
  const next = readTableCopy(old, needed);
  next.offset = refcounts.allocateExact(Math.ceil(next.bytes.length / s.clusterSize)) * s.clusterSize;
  w.writeBack();
  next.touchAll();
  next.writeTo(w.target);
  w.target.flush();
  s.header.l1Offset = next.offset;
  s.header.l1Size = next.entries;
  s.writeHeader();
  s.l1 = next;
  if (old.bytes.length > 0) refcounts.freeLater(old.offset, old.bytes.length);
  w.protection.addTable(next);
  w.writeBack();
}
