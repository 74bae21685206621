import { GuestError, usage } from '../../core/errors.js';
import { readTableCopy } from './l1.js';
import { encodeSnapshots, type Snapshot, snapshotL1 } from './snapshot-table.js';
import { MAX_SNAPSHOTS } from './structs.js';
import { Table } from './table.js';
import { checkRoom, dropTree, shareTree, updateFlags } from './trees.js';
import type { Writer } from './writer.js';

export interface NewSnapshot {
  readonly name: string;
  readonly id?: string;
  readonly dateSec?: number;
  readonly dateNsec?: number;
  readonly vmClockNsec?: bigint;
}

/** Replaces the snapshot table: the new one is written to new clusters, the header switches over in one write. */
function writeTable(w: Writer, snapshots: readonly Snapshot[], oldBytes: number): void {
  const { s, refcounts } = w;
  const bytes = encodeSnapshots(snapshots);
  const old = s.header.snapshotsOffset;
  let offset = 0;
  if (bytes.length > 0) {
    const cluster = refcounts.allocateExact(Math.ceil(bytes.length / s.clusterSize));
    offset = cluster * s.clusterSize;
  }
  w.writeBack();
  if (bytes.length > 0) w.target.write(bytes, offset);
  w.target.flush();
  s.header.snapshotsOffset = offset;
  s.header.snapshotCount = snapshots.length;
  s.writeHeader();
  if (oldBytes > 0) refcounts.freeLater(old, oldBytes);
}

function refuseDataFile(w: Writer): void {
  if (w.s.hasDataFile) throw new GuestError('unsupported', 'an image with an external data file has no internal snapshots');
}

export function createSnapshot(
  w: Writer,
  table: { readonly snapshots: readonly Snapshot[]; readonly bytes: number },
  wish: NewSnapshot,
): Snapshot {
  refuseDataFile(w);
  const { s, refcounts } = w;
  const { snapshots } = table;
  if (snapshots.length >= MAX_SNAPSHOTS) throw usage(`the image has ${MAX_SNAPSHOTS} snapshots already`);
  const id = wish.id ?? `${snapshots.reduce((n, x) => Math.max(n, /^[0-9]+$/.test(x.id) ? Number(x.id) : 0), 0) + 1}`;
  if (snapshots.some((x) => x.id === id)) throw new GuestError('exists', `there is a snapshot with id ${id} already`);
  w.prepare();
  w.writeBack();
  const now = Date.now();
  // A table marked private while a snapshot shares it would be overwritten: flags fall before counts rise on disk.
  checkRoom(s, refcounts, s.l1);
  updateFlags(s, refcounts, s.l1, 'clear');
  w.writeBack();
  shareTree(s, refcounts, s.l1);
  const copy = new Table(s.l1.bytes.slice(), 0);
  const clusters = Math.max(1, Math.ceil(copy.bytes.length / s.clusterSize));
  copy.offset = refcounts.allocateExact(clusters) * s.clusterSize;
  w.writeBack();
  copy.touchAll();
  copy.writeTo(w.target);
  const snapshot: Snapshot = {
    id,
    name: wish.name,
    l1Offset: copy.offset,
    l1Size: s.header.l1Size,
    dateSec: wish.dateSec ?? Math.floor(now / 1000),
    dateNsec: wish.dateNsec ?? (now % 1000) * 1e6,
    vmClockNsec: wish.vmClockNsec ?? 0n,
    vmStateSize: 0,
    diskSize: s.header.size,
    // What QEMU writes for a snapshot without VM state and instruction count.
    icount: 0n,
    unknownExtra: new Uint8Array(0),
  };
  writeTable(w, [...snapshots, snapshot], table.bytes);
  w.flush();
  return snapshot;
}

/** Makes the disk what it was. */
export function applySnapshot(w: Writer, snapshot: Snapshot): void {
  refuseDataFile(w);
  const { s, refcounts } = w;
  w.prepare();
  w.writeBack();
  const size = snapshot.diskSize ?? s.header.size;
  w.tracker?.mark(0, s.header.size);
  const old = s.l1;
  const theirs = snapshotL1(s, snapshot);
  checkRoom(s, refcounts, theirs);
  shareTree(s, refcounts, theirs);
  // Shared with the snapshot now, so nothing in it is private.
  updateFlags(s, refcounts, theirs, 'clear');
  const needed = Math.ceil(size / (s.clusterSize * s.l2Entries));
  const next = readTableCopy(theirs, Math.max(theirs.entries, needed));
  next.offset = refcounts.allocateExact(Math.max(1, Math.ceil(next.bytes.length / s.clusterSize))) * s.clusterSize;
  w.writeBack();
  next.touchAll();
  next.writeTo(w.target);
  w.target.flush();
  s.header.l1Offset = next.offset;
  s.header.l1Size = next.entries;
  s.header.size = size;
  s.writeHeader();
  s.l1 = next;
  dropTree(s, refcounts, old);
  refcounts.freeLater(old.offset, old.bytes.length);
  w.flush();
  w.protection.build();
}

export function deleteSnapshot(
  w: Writer,
  table: { readonly snapshots: readonly Snapshot[]; readonly bytes: number },
  snapshot: Snapshot,
): void {
  const { s, refcounts } = w;
  w.prepare();
  const l1 = snapshotL1(s, snapshot);
  writeTable(
    w,
    table.snapshots.filter((x) => x !== snapshot),
    table.bytes,
  );
  dropTree(s, refcounts, l1);
  refcounts.freeLater(l1.offset, l1.bytes.length);
  w.writeBack();
  updateFlags(s, refcounts, s.l1, 'by count');
  w.flush();
}

/** The table again, with what version 3 asks for (the disk size). */
export function rewriteSnapshots(w: Writer, table: { readonly snapshots: readonly Snapshot[]; readonly bytes: number }): void {
  if (table.snapshots.length > 0) writeTable(w, table.snapshots, table.bytes);
}
