import { fstatSync } from 'node:fs';
import { FileSource } from '../../block/file.js';
import { type BlockSource, checkRange, type Run } from '../../block/source.js';
import { GuestError, usage, within } from '../../core/errors.js';
import type { CheckResult, Extent, Image, ImageInfo, OpenContext, SnapshotInfo } from '../format.js';
import { readBitmap, readBitmapDirectory } from './bitmap-table.js';
import { check, type Tally } from './check.js';
import { openCrypt } from './crypt.js';
import { guestExtent } from './extent.js';
import { type Header, readHeader, textExtension } from './header.js';
import { describe } from './info.js';
import { mapGuest, readGuest, SnapshotView } from './reader.js';
import { Refcounts } from './refcounts.js';
import { readSnapshots, type Snapshot, snapshotL1 } from './snapshot-table.js';
import { State } from './state.js';
import { BITMAP_AUTO, BITMAP_IN_USE, EXT_BACKING_FORMAT, EXT_DATA_FILE, INCOMPAT_DATA_FILE } from './structs.js';

export interface BitmapInfo {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  /** Was not saved properly: its bits mean nothing. */
  readonly inUse: boolean;
}

/** A qcow2 image open for reading.  What is specific to qcow2 is here; writing is in WritableQcow2Image. */
export class Qcow2Image implements Image {
  readonly format = 'qcow2';
  readonly sectorSize = 512;
  readonly label: string;
  readonly backing: BlockSource | undefined;
  /** The parts of this folder share this; nobody outside needs it. */
  readonly state: State;
  readonly refcounts: Refcounts;
  #snapshots: { readonly snapshots: Snapshot[]; readonly bytes: number } | undefined;
  #opened: BlockSource[] = [];
  #preallocated: boolean | undefined;

  constructor(
    readonly file: BlockSource,
    protected readonly context: OpenContext,
  ) {
    this.label = file.label;
    const header = within({}, () => readHeader(file, context.forCheck === true));
    const s = new State(file, header, this.label);
    this.state = s;
    this.refcounts = new Refcounts(s);
    try {
      this.#openDataFile(s);
      if (header.backingName !== undefined && !context.noBacking && !context.forCheck) {
        const format = textExtension(header, EXT_BACKING_FORMAT);
        s.backing = context.openReference({
          role: 'backing',
          name: header.backingName,
          ...(format === undefined ? {} : { format }),
        });
        this.#opened.push(s.backing);
      }
      if (header.cryptMethod !== 0) openCrypt(s, context);
    } catch (e) {
      this.release();
      throw e;
    }
    this.backing = s.backing;
  }

  #openDataFile(s: State): void {
    if ((s.header.incompatible & INCOMPAT_DATA_FILE) === 0n) return;
    const name = textExtension(s.header, EXT_DATA_FILE);
    if (name === undefined) throw new GuestError('corrupt', 'the image has an external data file, but does not name it');
    s.dataFile = this.context.openReference({ role: 'data', name, format: 'raw', writable: this.context.writable });
    this.#opened.push(s.dataFile);
  }

  get header(): Readonly<Header> {
    return this.state.header;
  }
  get size(): number {
    return this.state.header.size;
  }
  get clusterSize(): number {
    return this.state.clusterSize;
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    readGuest(this.state, this.state.l1, into, offset);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return mapGuest(this.state, this.state.l1, offset, length);
  }
  extent(offset: number, length: number): Extent {
    checkRange(this, offset, length);
    return guestExtent(this.state, this.state.l1, offset, length, () => this.#metadataPreallocated());
  }

  /** More clusters are counted than the file has blocks: then holes of the file are worth asking for, as QEMU does. */
  #metadataPreallocated(): boolean {
    if (this.#preallocated === undefined) {
      this.#preallocated = false;
      if (this.file instanceof FileSource) {
        const real = Math.floor((fstatSync(this.file.fd).blocks * 512) / this.clusterSize);
        const threshold = Math.max(Math.floor((real * 10) / 9), real + 2);
        const end = Math.ceil(this.file.size / this.clusterSize);
        let used = 0;
        for (let c = 0; c < end && used < threshold; c++) if (this.refcounts.get(c) !== 0) used++;
        this.#preallocated = used >= threshold;
      }
    }
    return this.#preallocated;
  }

  describe(): ImageInfo {
    return describe(this);
  }

  // ---- snapshots ----
  protected forgetSnapshots(): void {
    this.#snapshots = undefined;
  }
  protected get snapshotTable(): { readonly snapshots: Snapshot[]; readonly bytes: number } {
    return (this.#snapshots ??= readSnapshots(this.state));
  }
  get snapshots(): readonly SnapshotInfo[] {
    return this.snapshotTable.snapshots;
  }
  /** By id, else by name, as qemu-img finds it. */
  findSnapshot(idOrName: string): Snapshot {
    const all = this.snapshotTable.snapshots;
    const found = all.find((x) => x.id === idOrName) ?? all.find((x) => x.name === idOrName);
    if (found === undefined) throw new GuestError('not-found', `${this.label} has no snapshot "${idOrName}"`);
    return found;
  }
  /** A snapshot's disk, read without applying it. */
  openSnapshot(idOrName: string): BlockSource {
    const x = this.findSnapshot(idOrName);
    const l1 = snapshotL1(this.state, x);
    return new SnapshotView(this.state, l1, x.diskSize ?? this.size, `${this.label}, snapshot "${x.name}"`);
  }
  /** The VM state saved in a snapshot: it lies behind the disk. */
  readVmState(idOrName: string, into: Uint8Array, offset: number): void {
    const x = this.findSnapshot(idOrName);
    if (offset < 0 || offset + into.length > x.vmStateSize)
      throw usage(`VM state of snapshot "${x.name}" has ${x.vmStateSize} bytes`);
    const span = this.state.clusterSize * this.state.l2Entries;
    readGuest(this.state, snapshotL1(this.state, x), into, Math.ceil((x.diskSize ?? this.size) / span) * span + offset);
  }

  // ---- bitmaps ----
  get bitmaps(): readonly BitmapInfo[] {
    const d = readBitmapDirectory(this.state);
    return (d?.entries ?? []).map((e) => ({
      name: e.name,
      granularity: 2 ** e.granularityBits,
      enabled: (e.flags & BITMAP_AUTO) !== 0,
      inUse: (e.flags & BITMAP_IN_USE) !== 0 || !d!.consistent,
    }));
  }
  /** The stored bits of a bitmap, least significant first, one a `granularity` bytes. */
  readBitmap(name: string): Uint8Array {
    const d = readBitmapDirectory(this.state);
    const e = d?.entries.find((x) => x.name === name);
    if (e === undefined) throw new GuestError('not-found', `${this.label} has no bitmap "${name}"`);
    if (!d!.consistent || e.flags & BITMAP_IN_USE)
      throw new GuestError('corrupt', `bitmap "${name}" was not saved properly and is inconsistent`);
    return readBitmap(this.state, e, this.size);
  }

  check(): CheckResult {
    return this.tally().result();
  }
  protected tally(): Tally {
    return check(this.state, this.refcounts);
  }

  close(): void {
    this.release();
  }
  /** Closes what this image opened. */
  protected release(): void {
    for (const o of this.#opened) o.close();
    this.#opened = [];
    this.state.l2.clear();
  }
}
