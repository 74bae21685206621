import { type BlockSource, checkRange, type WritableSource } from '../../block/source.js';
import { corrupt, GuestError, usage } from '../../core/errors.js';
import { parseSize } from '../../core/size.js';
import type { CheckResult, OpenContext, Place } from '../format.js';
import * as amend from './amend.js';
import { Bitmaps } from './bitmaps.js';
import { compressCluster } from './compress.js';
import { Qcow2Image } from './image.js';
import { clearMarks, repairImage } from './repair.js';
import { type Preallocation, preallocateDisk, resizeDisk } from './resize.js';
import { type Snapshot, snapshotL1 } from './snapshot-table.js';
import { applySnapshot, createSnapshot, deleteSnapshot, type NewSnapshot, rewriteSnapshots } from './snapshots.js';
import * as S from './structs.js';
import { Writer } from './writer.js';

/** A qcow2 image open for writing. */
export class WritableQcow2Image extends Qcow2Image implements WritableSource {
  readonly writer: Writer;
  readonly #bitmaps: Bitmaps;
  #open = true;

  constructor(file: BlockSource, context: OpenContext) {
    super(file, context);
    this.writer = new Writer(this.state, this.refcounts);
    this.#bitmaps = new Bitmaps(this.writer);
    void this.state.target;
    const h = this.state.header;
    try {
      if (!context.forCheck) {
        if (h.incompatible & S.INCOMPAT_CORRUPT)
          throw corrupt('the image is marked corrupt and can only be read (repair it: qemu-img check -r all)');
        if (h.incompatible & S.INCOMPAT_DIRTY) {
          // Not closed cleanly with lazy refcounts: the counts on disk are stale.
          const left = repairImage(this.writer, 'all');
          if (left.corruptions > 0)
            throw corrupt(`${left.corruptions} errors remain after repairing an image that was not closed cleanly`);
        }
      }
    } catch (e) {
      this.#open = false;
      this.release();
      throw e;
    }
    this.writer.beforeFirstChange = () => this.#firstChange();
  }

  #firstChange(): void {
    const h = this.state.header;
    if (h.incompatible & S.INCOMPAT_CORRUPT) throw corrupt('the image is marked corrupt (repair it first)');
    const known = h.autoclear & S.AUTOCLEAR_KNOWN;
    const lazy = (h.compatible & S.COMPAT_LAZY) !== 0n;
    if (known !== h.autoclear || lazy) {
      h.autoclear = known;
      if (lazy) h.incompatible |= S.INCOMPAT_DIRTY;
      this.state.writeHeader();
      this.state.target.flush();
    }
    this.#bitmaps.track();
  }

  /** Without barriers a power failure may reorder writes: for new files that are thrown away if the job fails. */
  set barriers(on: boolean) {
    this.writer.barriers = on;
  }

  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    this.writer.write(from, offset);
  }
  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.writer.zero(offset, length);
  }
  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.writer.discard(offset, length);
  }
  flush(): void {
    this.writer.flush();
  }

  placeForWrite(offset: number, length: number): readonly Place[] {
    checkRange(this, offset, length);
    return this.writer.place(offset, length);
  }
  /** Enters clusters that the caller compressed (see `writeCompressedData`). */
  writeCompressedMany(clusters: readonly { readonly offset: number; readonly data: Uint8Array }[]): void {
    this.writer.writeCompressedMany(clusters);
  }
  /** Nothing is allocated in this layer any more: the disk is what the backing file has. */
  makeEmpty(): void {
    this.writer.discard(0, this.size, true);
    this.flush();
  }

  /** Compresses and writes one cluster (the disk's last one may be short); as it is when compression gains nothing. */
  writeCompressed(cluster: Uint8Array, offset: number): void {
    checkRange(this, offset, cluster.length);
    const cs = this.clusterSize;
    let whole = cluster;
    if (cluster.length < cs) {
      if (offset + cluster.length !== this.size) throw usage(`compressed writes need whole clusters of ${cs} bytes`);
      whole = new Uint8Array(cs);
      whole.set(cluster);
    }
    const data = compressCluster(this.state.compressionType, whole);
    if (data === undefined) this.writer.write(cluster, offset);
    else this.writer.writeCompressedData(offset, data);
  }
  /** Enters a cluster that the caller compressed (raw deflate with a 4 KiB window, or a zstd frame). */
  writeCompressedData(offset: number, data: Uint8Array): void {
    this.writer.writeCompressedData(offset, data);
  }

  resize(size: number, preallocation: Preallocation = 'off'): void {
    const old = this.size;
    if (size === old) return;
    this.#bitmaps.prepareResize();
    resizeDisk(this.writer, size, preallocation);
    this.#bitmaps.resize(old, size);
    this.#bitmaps.save();
    this.flush();
  }
  preallocate(mode: Preallocation): void {
    if (mode !== 'off') preallocateDisk(this.writer, 0, this.size, mode);
    this.flush();
  }

  // ---- snapshots ----
  createSnapshot(wish: NewSnapshot | string): Snapshot {
    try {
      return createSnapshot(this.writer, this.snapshotTable, typeof wish === 'string' ? { name: wish } : wish);
    } finally {
      this.forgetSnapshots();
    }
  }
  applySnapshot(idOrName: string): void {
    const x = this.findSnapshot(idOrName);
    const old = this.size;
    if (x.diskSize !== undefined && x.diskSize !== old) this.#bitmaps.prepareResize();
    applySnapshot(this.writer, x);
    if (this.size !== old) this.#bitmaps.resize(old, this.size);
    this.flush();
  }
  deleteSnapshot(idOrName: string): void {
    try {
      deleteSnapshot(this.writer, this.snapshotTable, this.findSnapshot(idOrName));
    } finally {
      this.forgetSnapshots();
    }
  }

  // ---- bitmaps ----
  override readBitmap(name: string): Uint8Array {
    return this.#bitmaps.read(name);
  }
  addBitmap(name: string, options?: { readonly granularity?: number; readonly disabled?: boolean }): void {
    this.#bitmaps.add(name, options);
  }
  removeBitmap(name: string): void {
    this.#bitmaps.remove(name);
  }
  clearBitmap(name: string): void {
    this.#bitmaps.clear(name);
  }
  enableBitmap(name: string, on = true): void {
    this.#bitmaps.enable(name, on);
  }
  /** Adds the set bits of another bitmap: one of this image by name, or another image's (`readBitmap`). */
  mergeBitmap(name: string, source: string | { readonly bits: Uint8Array; readonly granularity: number }): void {
    this.#bitmaps.merge(name, source);
  }

  // ---- header ----
  /** Records another backing file; undefined makes the image stand alone.  Does not touch the contents (rebase -u). */
  changeBacking(name: string | undefined, format?: string): void {
    this.writer.prepare();
    amend.setBacking(this.state, name, format);
  }

  /** `qemu-img amend -o`: settings as text. */
  amend(settings: Readonly<Record<string, string>>): void {
    const onOff = (key: string, value: string): boolean => {
      if (value === 'on' || value === 'true') return true;
      if (value === 'off' || value === 'false') return false;
      throw usage(`${key}=${value}: "on" or "off" is expected`);
    };
    const has = (k: string) => settings[k] !== undefined;
    const known = [
      'compat',
      'lazy_refcounts',
      'refcount_bits',
      'size',
      'backing_file',
      'backing_fmt',
      'data_file',
      'data_file_raw',
    ];
    for (const k of Object.keys(settings)) if (!known.includes(k)) throw usage(`"${k}" cannot be amended (${known.join(', ')})`);
    const compat = settings['compat'];
    if (compat !== undefined && !['0.10', 'v2', '1.1', 'v3'].includes(compat))
      throw usage(`compat=${compat}: v2 (0.10) or v3 (1.1) is expected`);
    const wanted = compat === undefined ? this.header.version : compat === '0.10' || compat === 'v2' ? 2 : 3;
    this.writer.prepare();
    if (wanted === 3 && this.header.version === 2) {
      amend.upgrade(this.writer);
      rewriteSnapshots(this.writer, this.snapshotTable);
      this.forgetSnapshots();
    }
    if (has('lazy_refcounts')) amend.setLazy(this.state, onOff('lazy_refcounts', settings['lazy_refcounts']!));
    if (has('refcount_bits')) amend.setRefcountBits(this.writer, Number(settings['refcount_bits']));
    if (has('data_file')) amend.setDataFile(this.state, settings['data_file']!);
    if (has('data_file_raw')) amend.setDataFileRaw(this.state, onOff('data_file_raw', settings['data_file_raw']!));
    if (has('backing_file') || has('backing_fmt')) {
      const name = settings['backing_file'] ?? this.header.backingName;
      this.changeBacking(name === '' ? undefined : name, settings['backing_fmt'] ?? this.describe().backingFormat);
    }
    if (has('size')) this.resize(parseSize(settings['size']!));
    if (wanted === 2 && this.header.version === 3) {
      const tables = this.snapshotTable.snapshots.map((x) => snapshotL1(this.state, x));
      amend.downgrade(this.writer, tables);
    }
    this.flush();
  }
  amendKeySlots(change: amend.KeySlotChange): void {
    amend.amendKeySlots(this.state, change);
    this.flush();
  }

  // ---- check and repair ----
  override check(): CheckResult {
    this.writer.writeBack(true);
    return super.check();
  }
  repair(what: 'leaks' | 'all'): CheckResult {
    this.writer.writeBack(true);
    const result = repairImage(this.writer, what).result();
    this.writer.protection.build();
    return result;
  }

  override close(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.#bitmaps.save();
      this.writer.writeBack(true);
      this.state.target.flush();
      if (this.header.incompatible & S.INCOMPAT_DIRTY && this.writer.isPrepared) clearDirty(this.writer);
    } finally {
      super.close();
    }
  }
}

function clearDirty(w: Writer): void {
  if (w.s.header.incompatible & S.INCOMPAT_CORRUPT)
    throw new GuestError('corrupt', 'the image was found to be damaged while it was open');
  clearMarks(w);
}
