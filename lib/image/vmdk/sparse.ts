import { deflateSync } from 'node:zlib';
import type { BlockSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { inflateZlib } from '../../core/codec.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { Lru } from '../../core/lru.js';
import { type Allocation, BlockUse, type Findings, grow, type PackedBlock, type Piece, writable } from '../mapped.js';
import { EntryTable, TableCache, type TablePage } from '../tables.js';
import type { DiskExtent } from './extent.js';
import { GRAIN_MARKER_BYTES, GrainMarker, GTE_ZEROED, SECTOR } from './structs.js';

export interface SparseLayout {
  readonly format: string;
  size: number;
  readonly grainBytes: number;
  readonly entriesPerTable: number;
  /** Byte offsets of the grain directories. */
  readonly directory: number;
  readonly redundant: number | undefined;
  readonly directoryEntries: number;
  readonly zeroedGrain: boolean;
  readonly compressed: boolean;
  readonly markers: boolean;
  /** Bytes at the start that hold header and tables. */
  readonly overhead: number;
  /** Told the file's end in sectors when tables are written (COWD keeps it in its header). */
  readonly freeSector?: (sector: number) => void;
}

/** Longest run looked up in one call, in table entries. */
const LOOK_AHEAD = 65536;
const MAX_NEW_BYTES = 16 << 20;
/** The lowest sector a grain can have: 0 is "absent", 1 "zero" where the header says so. */
const MAX_SECTOR = 0xffffffff;

/** Hosted sparse (monolithicSparse, twoGbMaxExtentSparse, streamOptimized) and COWD: 32-bit grain directory and grain tables. */
export class SparseExtent implements DiskExtent {
  readonly format: string;
  readonly size: number;
  readonly grainBytes: number;
  readonly compressed: boolean;
  readonly #tables: TableCache;
  readonly #directory: EntryTable | undefined;
  readonly #redundant: EntryTable | undefined;
  readonly #grains: Lru<number, Uint8Array>;
  #lastTable = -1;
  #lastPage: TablePage | undefined;
  /** Tables taken from the redundant directory because the primary one points outside the file. */
  readonly #damaged = new Set<number>();

  constructor(
    readonly file: BlockSource,
    private readonly layout: SparseLayout,
  ) {
    this.format = layout.format;
    this.size = layout.size;
    this.grainBytes = layout.grainBytes;
    this.compressed = layout.compressed;
    this.#tables = new TableCache(file, 'grain table');
    this.#grains = new Lru(4 << 20);
    const directory = (at: number | undefined): EntryTable | undefined =>
      at !== undefined && at > 0 && at + layout.directoryEntries * 4 <= file.size
        ? new EntryTable(this.#tables, at, layout.directoryEntries, 4, true)
        : undefined;
    this.#directory = directory(layout.directory);
    this.#redundant = directory(layout.redundant);
    if (this.#directory === undefined && this.#redundant === undefined && layout.directoryEntries > 0)
      throw corrupt(
        `${file.label}: grain directory of ${layout.directoryEntries} entries at ${hex(layout.directory)} is past the end of the file (size ${hex(file.size)})`,
        { offset: layout.directory },
      );
  }

  get #tableBytes(): number {
    return this.layout.entriesPerTable * 4;
  }

  #inFile(sector: number): boolean {
    return sector * SECTOR + this.#tableBytes <= this.file.size;
  }

  /** The page of grain table `t`, undefined when the directory has none. */
  #table(t: number): TablePage | undefined {
    if (t === this.#lastTable) return this.#lastPage;
    const primary = this.#directory?.u32(t);
    const second = this.#redundant?.u32(t);
    let sector = primary ?? second ?? 0;
    let mirror = primary !== undefined ? second : undefined;
    if (sector !== 0 && !this.#inFile(sector)) {
      this.#damaged.add(t);
      if (second === undefined || second === 0 || !this.#inFile(second))
        throw corrupt(
          `${this.file.label}: grain table ${t} at ${hex(sector * SECTOR)} is past the end of the file (size ${hex(this.file.size)})`,
          { offset: sector * SECTOR },
        );
      sector = second;
      mirror = undefined;
    }
    let page: TablePage | undefined;
    if (sector !== 0) {
      page = this.#tables.page(sector * SECTOR, this.#tableBytes);
      page.mirror =
        mirror !== undefined && mirror !== 0 && mirror !== sector && this.#inFile(mirror) ? mirror * SECTOR : undefined;
    }
    this.#lastTable = t;
    this.#lastPage = page;
    return page;
  }

  #entry(grain: number): number {
    const per = this.layout.entriesPerTable;
    const t = Math.floor(grain / per);
    const page = this.#table(t);
    return page === undefined ? 0 : page.view.getUint32((grain - t * per) * 4, true);
  }

  #kind(entry: number): Piece['kind'] {
    if (entry === 0) return 'absent';
    if (entry === GTE_ZEROED && this.layout.zeroedGrain) return 'zero';
    return this.compressed ? 'computed' : 'data';
  }

  locate(offset: number, length: number): Piece {
    const g = this.grainBytes;
    const per = this.layout.entriesPerTable;
    let grain = Math.floor(offset / g);
    const inside = offset - grain * g;
    const first = this.#entry(grain);
    const kind = this.#kind(first);
    const step = kind === 'data' ? g / SECTOR : 0;
    let n = g - inside;
    if (kind !== 'computed')
      for (let steps = 1, expected = first + step; n < length && steps < LOOK_AHEAD; steps++, expected += step) {
        grain++;
        if (kind === 'absent' && grain % per === 0 && this.#table(grain / per) === undefined) {
          n += g * per;
          grain += per - 1;
          continue;
        }
        if (this.#entry(grain) !== expected) break;
        n += g;
      }
    return {
      kind,
      length: Math.min(n, length),
      offset: kind === 'data' ? first * SECTOR + inside : first * SECTOR,
      source: this.file,
    };
  }

  readComputed(into: Uint8Array, offset: number, piece: Piece): void {
    const inside = offset % this.grainBytes;
    into.set(this.#grain(piece.offset).subarray(inside, inside + into.length));
  }

  /** The inflated grain at a file offset. */
  #grain(at: number): Uint8Array {
    const cached = this.#grains.get(at);
    if (cached !== undefined) return cached;
    const { file } = this;
    const left = file.size - at;
    // Incompressible data grows a little under deflate; twice the grain is what every writer stays below.
    let length = Math.min(left, this.grainBytes * 2 + SECTOR);
    let start = at;
    if (this.layout.markers) {
      if (left < GrainMarker.size)
        throw corrupt(`${file.label}: compressed grain at ${hex(at)} is past the end of the file (size ${hex(file.size)})`, {
          offset: at,
        });
      const head = new Uint8Array(GrainMarker.size);
      file.read(head, at);
      length = GrainMarker.at(head).length;
      start = at + GRAIN_MARKER_BYTES;
      if (length === 0 || length > this.grainBytes * 2 + SECTOR || start + length > file.size)
        throw corrupt(
          `${file.label}: compressed grain at ${hex(at)} has ${length} bytes (1 to ${this.grainBytes * 2 + SECTOR})`,
          {
            offset: at,
          },
        );
    } else if (left <= 0)
      throw corrupt(`${file.label}: compressed grain at ${hex(at)} is past the end of the file (size ${hex(file.size)})`, {
        offset: at,
      });
    const packed = new Uint8Array(length);
    file.read(packed, start);
    const data = inflateZlib(packed, this.grainBytes);
    const grain = new Uint8Array(this.grainBytes);
    grain.set(data);
    this.#grains.set(at, grain, grain.length);
    return grain;
  }

  /** Puts `from` into a new compressed grain behind the last one; the rest of the grain keeps its bytes. */
  writeComputed(from: Uint8Array, offset: number, below: (into: Uint8Array, offset: number) => void): number {
    const g = this.grainBytes;
    const index = Math.floor(offset / g);
    const inside = offset - index * g;
    const n = Math.min(g - inside, from.length);
    let grain = from;
    if (n < g || from.length !== g) {
      grain = new Uint8Array(g);
      if (n < g) below(grain.subarray(0, Math.min(g, this.size - index * g)), index * g);
      grain.set(from.subarray(0, n), inside);
    }
    const file = writable(this.file);
    const at = alignUp(file.size, SECTOR);
    const record = compressedGrain((index * g) / SECTOR, grain, this.layout.markers);
    const sector = this.#sector(at);
    file.write(record, at);
    this.#setEntry(index, sector);
    return n;
  }

  /** Grains that the caller compressed, one behind the other in one write. */
  writePacked(blocks: readonly PackedBlock[]): void {
    const g = this.grainBytes;
    const file = writable(this.file);
    const start = alignUp(file.size, SECTOR);
    const head = this.layout.markers ? GRAIN_MARKER_BYTES : 0;
    const all = new Uint8Array(blocks.reduce((n, b) => n + alignUp(head + b.data.length, SECTOR), 0));
    let at = 0;
    for (const b of blocks) {
      if (this.layout.markers) {
        const m = GrainMarker.at(all, at);
        m.value = b.offset / SECTOR;
        m.length = b.data.length;
      }
      all.set(b.data, at + head);
      at += alignUp(head + b.data.length, SECTOR);
    }
    this.#sector(start + all.length);
    file.write(all, start);
    at = start;
    for (const b of blocks) {
      this.#setEntry(Math.floor(b.offset / g), at / SECTOR);
      at += alignUp(head + b.data.length, SECTOR);
    }
  }

  #sector(at: number): number {
    const s = at / SECTOR;
    if (s > MAX_SECTOR) throw new GuestError('no-space', `${this.file.label}: a sparse VMDK extent cannot be larger than 2 TiB`);
    return s;
  }

  #setEntry(grain: number, sector: number): void {
    const per = this.layout.entriesPerTable;
    const t = Math.floor(grain / per);
    if (this.#damaged.has(t) || this.#directory === undefined)
      throw corrupt(`${this.file.label}: the grain directory is damaged: the image can be read but not written`);
    const page = this.#table(t) ?? this.#newTable(t);
    page.view.setUint32((grain - t * per) * 4, sector, true);
    this.#tables.changed(page);
  }

  /** Space for a table the directory lacks; it is all zero, so that the directory may name it at any time. */
  #newTable(t: number): TablePage {
    const file = writable(this.file);
    for (const directory of [this.#directory, this.#redundant]) {
      if (directory === undefined) continue;
      const at = alignUp(file.size, this.grainBytes);
      grow(file, at + alignUp(this.#tableBytes, SECTOR));
      directory.set32(t, this.#sector(at));
    }
    this.#lastTable = -1;
    return this.#table(t)!;
  }

  protects(offset: number): boolean {
    return offset < this.layout.overhead;
  }

  allocate(offset: number, length: number): Allocation {
    const g = this.grainBytes;
    const first = Math.floor(offset / g);
    const last = Math.floor((offset + length - 1) / g);
    const count = Math.min(last - first + 1, Math.max(1, Math.floor(MAX_NEW_BYTES / g)));
    const file = writable(this.file);
    const at = alignUp(file.size, g);
    this.#sector(at + count * g);
    grow(file, at + count * g);
    return { start: first * g, length: count * g, source: file, offset: at };
  }

  commit(a: Allocation): void {
    const g = this.grainBytes;
    const first = a.start / g;
    for (let i = 0; i < a.length / g; i++) this.#setEntry(first + i, a.offset / SECTOR + (i * g) / SECTOR);
  }

  markZero(offset: number, length: number): number {
    const g = this.grainBytes;
    if (!this.layout.zeroedGrain || offset % g !== 0) return 0;
    const end = offset + length;
    let at = offset;
    for (; at + Math.min(g, this.size - at) <= end && at < end; at += g) {
      const index = at / g;
      const old = this.#entry(index);
      this.#setEntry(index, GTE_ZEROED);
      if (old > GTE_ZEROED && (old + g / SECTOR) * SECTOR <= this.file.size) writable(this.file).discard?.(old * SECTOR, g);
    }
    return Math.min(at, end) - offset;
  }

  sync(): void {
    if (!this.#tables.dirty) return;
    this.layout.freeSector?.(Math.ceil(this.file.size / SECTOR));
    this.#tables.sync();
  }

  check(findings: Findings): void {
    const g = this.grainBytes;
    const per = this.layout.entriesPerTable;
    const use = new BlockUse(Math.ceil(this.file.size / SECTOR));
    const tables = Math.ceil(this.size / g / per);
    for (let t = 0; t < tables; t++) {
      let page: TablePage | undefined;
      try {
        page = this.#table(t);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
        findings.add('corruption', e.where.offset ?? 0, this.#tableBytes, e.message);
        continue;
      }
      if (this.#damaged.has(t))
        findings.add(
          'corruption',
          t * per * g,
          per * g,
          `${this.file.label}: grain table ${t} is only in the redundant directory`,
        );
      if (page === undefined) continue;
      const grains = Math.min(per, Math.ceil(this.size / g) - t * per);
      for (let i = 0; i < grains; i++) {
        const entry = page.view.getUint32(i * 4, true);
        const kind = this.#kind(entry);
        if (kind === 'absent' || kind === 'zero') continue;
        const at = entry * SECTOR;
        const guest = (t * per + i) * g;
        if (at >= this.file.size)
          findings.add(
            'corruption',
            guest,
            g,
            `${this.file.label}: grain of guest offset ${hex(guest)} at ${hex(at)} is past the end of the file`,
          );
        else if (!use.take(entry))
          findings.add(
            'corruption',
            guest,
            g,
            `${this.file.label}: grain at ${hex(at)} is used twice (again for guest offset ${hex(guest)})`,
          );
      }
    }
  }
}

/** Marker and zlib stream, padded to whole sectors. */
export function compressedGrain(lba: number, grain: Uint8Array, markers: boolean): Uint8Array {
  const packed = deflateSync(grain);
  const head = markers ? GRAIN_MARKER_BYTES : 0;
  const out = new Uint8Array(alignUp(head + packed.length, SECTOR));
  if (markers) {
    const m = GrainMarker.at(out);
    m.value = lba;
    m.length = packed.length;
  }
  out.set(packed, head);
  return out;
}
