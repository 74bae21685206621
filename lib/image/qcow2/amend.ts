import type { WritableSource } from '../../block/source.js';
import { GuestError, unsupported, usage } from '../../core/errors.js';
import { addLuks1Key, eraseLuks1Slot, noKeyFits, unlockLuks1 } from '../../crypto/luks1.js';
import { check } from './check.js';
import { luksArea, luksHeader } from './crypt.js';
import { featureNameTable, setExtension, setTextExtension } from './header.js';
import { hostRaw, plainKind, ZERO, ZERO_ALLOC } from './lookup.js';
import { rebuild } from './repair.js';
import type { State } from './state.js';
import * as S from './structs.js';
import type { Table } from './table.js';
import type { Writer } from './writer.js';

/** Version 2 to 3: features become possible, nothing else changes.  The caller rewrites the snapshot table. */
export function upgrade(w: Writer): void {
  const h = w.s.header;
  h.version = 3;
  setExtension(h, S.EXT_FEATURE_NAMES, featureNameTable());
  w.s.writeHeader();
}

/** Version 3 to 2, when nothing needs version 3; zero flags become zeroes on disk. */
export function downgrade(w: Writer, snapshotTables: readonly Table[]): void {
  const { s } = w;
  const h = s.header;
  if (h.refcountOrder !== 4)
    throw unsupported(`version 2 has refcounts of 16 bits, the image has ${2 ** h.refcountOrder} (amend refcount_bits first)`);
  const needs = h.incompatible & ~S.INCOMPAT_DIRTY;
  if (needs & S.INCOMPAT_DATA_FILE) throw unsupported('version 2 has no external data files');
  if (needs & S.INCOMPAT_EXTENDED_L2) throw unsupported('version 2 has no extended L2 entries');
  if (needs & S.INCOMPAT_COMPRESSION) throw unsupported('version 2 has no compression but zlib');
  if (h.autoclear & S.AUTOCLEAR_BITMAPS) throw unsupported('version 2 has no bitmaps (remove them first)');
  w.prepare();
  w.writeBack(true);
  for (const l1 of [s.l1, ...snapshotTables]) expandZeroes(w, l1);
  w.writeBack(true);
  h.incompatible = 0n;
  h.compatible = 0n;
  h.autoclear = 0n;
  h.version = 2;
  h.extra = new Uint8Array(0);
  s.writeHeader();
}

function expandZeroes(w: Writer, l1: Table): void {
  const { s, refcounts } = w;
  const cs = s.clusterSize;
  const zeroes = new Uint8Array(cs);
  for (let i = 0; i < l1.entries; i++) {
    const at = l1.target(i);
    if (at === 0) continue;
    const shares = refcounts.get(at / cs);
    for (let k = 0; k < s.l2Entries; k++) {
      const t = s.l2.get(at);
      const kind = plainKind(s, t.hi(k), t.lo(k));
      if (kind !== ZERO && kind !== ZERO_ALLOC) continue;
      if (kind === ZERO && s.backing === undefined && s.header.backingName === undefined) {
        t.set(k, 0, 0);
        continue;
      }
      let host = hostRaw(t.hi(k), t.lo(k));
      let hi = t.hi(k);
      if (kind === ZERO) {
        const { cluster } = refcounts.allocate(1);
        // All trees that share this table share the new cluster.
        if (shares > 1) refcounts.set(cluster, shares);
        host = cluster * cs;
        hi = Math.floor(host / 0x100000000) | (shares === 1 && l1 === s.l1 ? S.COPIED : 0);
      }
      w.writeHost(zeroes, host, (i * s.l2Entries + k) * cs);
      s.l2.get(at).set(k, hi, host % 0x100000000);
    }
  }
}

export function setLazy(s: State, on: boolean): void {
  if (on && s.header.version < 3) throw unsupported('lazy refcounts need a version 3 image (compat=1.1)');
  s.header.compatible = on ? s.header.compatible | S.COMPAT_LAZY : s.header.compatible & ~S.COMPAT_LAZY;
  s.writeHeader();
}

/** Other refcount width: all structures are made anew, then the header switches over. */
export function setRefcountBits(w: Writer, bits: number): void {
  const { s, refcounts } = w;
  const order = Math.log2(bits);
  if (!Number.isInteger(order) || order < 0 || order > 6) throw usage(`refcount_bits ${bits} is not a power of two from 1 to 64`);
  if (order === s.header.refcountOrder) return;
  if (s.header.version < 3) throw unsupported('version 2 has refcounts of 16 bits only (compat=1.1 first)');
  w.writeBack(true);
  const found = check(s, refcounts);
  if (found.corruptions > 0) throw new GuestError('corrupt', `the image has ${found.corruptions} errors (repair it first)`);
  rebuild(w, order);
  w.protection.build();
}

export function setDataFile(s: State, name: string): void {
  if (!s.hasDataFile) throw unsupported('an external data file cannot be added to an image');
  setTextExtension(s.header, S.EXT_DATA_FILE, name);
  s.writeHeader();
}

export function setDataFileRaw(s: State, on: boolean): void {
  const now = (s.header.autoclear & S.AUTOCLEAR_RAW_DATA) !== 0n;
  if (on && !now) throw unsupported('data_file_raw cannot be switched on for an existing image');
  if (!on && now) {
    s.header.autoclear &= ~S.AUTOCLEAR_RAW_DATA;
    s.writeHeader();
  }
}

/** New backing file name and format in the header; undefined takes them out.  The disk's contents are the caller's business. */
export function setBacking(s: State, name: string | undefined, format: string | undefined): void {
  if (name !== undefined && s.header.autoclear & S.AUTOCLEAR_RAW_DATA)
    throw unsupported('an image with data_file_raw has no backing file');
  s.header.backingName = name;
  setTextExtension(s.header, S.EXT_BACKING_FORMAT, name === undefined ? undefined : format);
  s.writeHeader();
}

export interface KeySlotChange {
  readonly state: 'active' | 'inactive';
  readonly slot?: number;
  /** For active: the new passphrase.  A passphrase that opens the image must be known (`current`). */
  readonly newSecret?: Uint8Array;
  readonly oldSecret?: Uint8Array;
  readonly current?: Uint8Array;
  readonly iterMs?: number;
  /** Lets the last key go. */
  readonly force?: boolean;
}

/** `qemu-img amend -o encrypt.state=…`. */
export function amendKeySlots(s: State, change: KeySlotChange): void {
  if (s.header.cryptMethod !== 2) throw usage('the image is not encrypted with LUKS');
  const area = luksArea(s) as WritableSource;
  let h = luksHeader(s);
  if (change.state === 'active') {
    if (change.newSecret === undefined) throw usage('a new passphrase is needed for an active key slot');
    const opened = change.current === undefined ? undefined : unlockLuks1(area, h, change.current);
    if (opened === undefined) throw noKeyFits('encrypted qcow2 image');
    addLuks1Key(area, h, opened.key, change.newSecret, {
      ...(change.slot === undefined ? {} : { slot: change.slot }),
      ...(change.iterMs === undefined ? {} : { iterMs: change.iterMs }),
    });
    return;
  }
  const slots =
    change.slot !== undefined
      ? [change.slot]
      : h.slots.flatMap((k, i) =>
          k.active && change.oldSecret !== undefined && unlockLuks1(area, h, change.oldSecret, i) ? [i] : [],
        );
  if (slots.length === 0) throw usage('no key slot matches: nothing to erase');
  const left = h.slots.filter((k, i) => k.active && !slots.includes(i)).length;
  if (left === 0 && !change.force)
    throw new GuestError('usage', 'that would erase the last key: the data could never be read again (force it if meant)');
  for (const i of slots) h = eraseLuks1Slot(area, h, i);
}
