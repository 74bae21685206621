import { readAt } from '../../block/source.js';
import { corrupt, hex } from '../../core/errors.js';
import { decodeName, encodeName } from '../../core/text.js';
import type { SnapshotInfo } from '../format.js';
import type { State } from './state.js';
import { MAX_L1_BYTES, MAX_SNAPSHOT_TABLE_BYTES, SnapshotStruct } from './structs.js';
import { readTable, type Table } from './table.js';

/** An entry of the snapshot table. */
export interface Snapshot extends SnapshotInfo {
  readonly l1Offset: number;
  readonly l1Size: number;
  /** Extra data past what we know, kept. */
  readonly unknownExtra: Uint8Array;
}

/** Extra data we understand: VM state size, disk size, instruction count. */
const KNOWN_EXTRA = 24;

export function readSnapshots(s: State): { readonly snapshots: Snapshot[]; readonly bytes: number } {
  const snapshots: Snapshot[] = [];
  let at = s.header.snapshotsOffset;
  const start = at;
  const need = (n: number) => {
    if (at + n > s.file.size)
      throw corrupt(`snapshot table at ${hex(start)} goes past the end of the file (size ${hex(s.file.size)})`);
    if (at + n - start > MAX_SNAPSHOT_TABLE_BYTES)
      throw corrupt(`snapshot table is larger than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
  };
  for (let i = 0; i < s.header.snapshotCount; i++) {
    need(40);
    const head = readAt(s.file, at, 40);
    const v = SnapshotStruct.at(head);
    const total = 40 + v.extraSize + v.idSize + v.nameSize;
    if (v.extraSize > 1024 * 1024) throw corrupt(`snapshot ${i} has ${v.extraSize} bytes of extra data`);
    need(total);
    const rest = readAt(s.file, at + 40, total - 40);
    const view = new DataView(rest.buffer, rest.byteOffset, rest.byteLength);
    const number = (o: number) => {
      const n = view.getUint32(o) * 0x100000000 + view.getUint32(o + 4);
      if (!Number.isSafeInteger(n)) throw corrupt(`snapshot ${i} has a size of ${hex(view.getBigUint64(o))}`);
      return n;
    };
    snapshots.push({
      id: decodeName(rest.subarray(v.extraSize, v.extraSize + v.idSize)),
      name: decodeName(rest.subarray(v.extraSize + v.idSize)),
      l1Offset: v.l1Offset,
      l1Size: v.l1Size,
      dateSec: v.dateSec,
      dateNsec: v.dateNsec,
      vmClockNsec: v.vmClock,
      vmStateSize: v.extraSize >= 8 ? number(0) : v.vmStateSize,
      diskSize: v.extraSize >= 16 ? number(8) : s.header.size,
      ...(v.extraSize >= 24 ? { icount: view.getBigUint64(16) } : {}),
      unknownExtra: rest.slice(Math.min(v.extraSize, KNOWN_EXTRA), v.extraSize),
    });
    at += Math.ceil(total / 8) * 8;
  }
  return { snapshots, bytes: at - start };
}

export function encodeSnapshots(snapshots: readonly Snapshot[]): Uint8Array {
  const parts = snapshots.map((s) => {
    const id = encodeName(s.id);
    const name = encodeName(s.name);
    const extra = KNOWN_EXTRA + s.unknownExtra.length;
    const out = new Uint8Array(Math.ceil((40 + extra + id.length + name.length) / 8) * 8);
    const v = SnapshotStruct.at(out);
    v.l1Offset = s.l1Offset;
    v.l1Size = s.l1Size;
    v.idSize = id.length;
    v.nameSize = name.length;
    v.dateSec = s.dateSec;
    v.dateNsec = s.dateNsec;
    v.vmClock = s.vmClockNsec;
    v.vmStateSize = s.vmStateSize > 0xffffffff ? 0 : s.vmStateSize;
    v.extraSize = extra;
    const view = new DataView(out.buffer);
    view.setBigUint64(40, BigInt(s.vmStateSize));
    view.setBigUint64(48, BigInt(s.diskSize ?? 0));
    // All ones: no instruction count was recorded.
    view.setBigUint64(56, s.icount ?? 0xffffffffffffffffn);
    out.set(s.unknownExtra, 64);
    out.set(id, 40 + extra);
    out.set(name, 40 + extra + id.length);
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

/** A snapshot's L1 table, checked. */
export function snapshotL1(s: State, snapshot: Snapshot): Table {
  const what = `L1 table of snapshot "${snapshot.name}"`;
  if (snapshot.l1Size * 8 > MAX_L1_BYTES) throw corrupt(`${what} has ${snapshot.l1Size} entries (at most ${MAX_L1_BYTES / 8})`);
  if (snapshot.l1Offset % s.clusterSize !== 0) throw corrupt(`${what} at ${hex(snapshot.l1Offset)} is not aligned to clusters`);
  return readTable(s.file, snapshot.l1Offset, snapshot.l1Size * 8, what);
}
