import type { BlockSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { GuestError, hex } from '../../core/errors.js';
import type { CheckResult, ImageInfo } from '../format.js';
import { type Allocation, BlockUse, Findings, grow, type Mapping, type Piece, writable } from '../mapped.js';
import { EntryTable, TableCache } from '../tables.js';
import { FOOTER_BYTES, SECTOR, UNUSED } from './structs.js';

const LOOK_AHEAD = 65536;

/** A fixed VHD: the disk, then the footer. */
export class FixedMapping implements Mapping {
  readonly format = 'vpc';
  readonly sectorSize = 512;
  constructor(
    readonly file: BlockSource,
    readonly size: number,
    readonly uniqueId: Uint8Array,
  ) {}
  locate(offset: number, length: number): Piece {
    return { kind: 'data', length, offset, source: this.file, flat: true };
  }
  describe(): ImageInfo {
    return { format: 'vpc', virtualSize: this.size, snapshots: [], features: [] };
  }
  check(): CheckResult {
    const findings = new Findings();
    if (this.size > this.file.size)
      findings.add(
        'corruption',
        this.file.size,
        this.size - this.file.size,
        `${this.file.label}: the disk is longer than the file`,
      );
    return findings.result({ imageEnd: this.file.size });
  }
  close(): void {}
}

export interface DynamicLayout {
  readonly size: number;
  readonly blockSize: number;
  readonly tableOffset: number;
  readonly tableEntries: number;
  readonly differencing: boolean;
  readonly uniqueId: Uint8Array;
  /** The footer's bytes: they move to the new end when the file grows. */
  readonly footer: Uint8Array;
  readonly parentName: string | undefined;
}

/** Dynamic and differencing VHD: a table of blocks, each behind a bitmap of its sectors. */
export class DynamicMapping implements Mapping {
  readonly format = 'vpc';
  readonly sectorSize = 512;
  readonly size: number;
  readonly uniqueId: Uint8Array;
  readonly #tables: TableCache;
  readonly #bat: EntryTable;
  readonly #bitmapBytes: number;
  #touched = -1;

  constructor(
    readonly file: BlockSource,
    private readonly layout: DynamicLayout,
    readonly backing: BlockSource | undefined,
  ) {
    this.size = layout.size;
    this.uniqueId = layout.uniqueId;
    this.#tables = new TableCache(file, 'block allocation table');
    this.#bat = new EntryTable(this.#tables, layout.tableOffset, layout.tableEntries, 4, false);
    this.#bitmapBytes = alignUp(Math.ceil(layout.blockSize / SECTOR / 8), SECTOR);
  }

  locate(offset: number, length: number): Piece {
    const { blockSize } = this.layout;
    let block = Math.floor(offset / blockSize);
    const inside = offset - block * blockSize;
    const entry = this.#bat.u32(block);
    let n = blockSize - inside;
    if (entry === UNUSED) {
      for (let steps = 1; n < length && steps < LOOK_AHEAD && this.#bat.u32(++block) === UNUSED; steps++) n += blockSize;
      return { kind: 'absent', length: Math.min(n, length), offset: 0, source: this.file };
    }
    const data = entry * SECTOR + this.#bitmapBytes + inside;
    n = Math.min(n, length);
    return this.layout.differencing
      ? this.#locateSectors(entry * SECTOR, inside, n, data)
      : { kind: 'data', length: n, offset: data, source: this.file };
  }

  /** In a differencing disk each sector is here or in the parent: the bitmap says, highest bit first. */
  #locateSectors(bitmapAt: number, inside: number, length: number, data: number): Piece {
    const bitmap = this.#tables.page(bitmapAt, this.#bitmapBytes).bytes;
    let sector = Math.floor(inside / SECTOR);
    const here = (s: number) => (bitmap[s >> 3]! >> (7 - (s & 7))) & 1;
    const first = here(sector);
    const skip = first === 1 ? 0xff : 0;
    let n = (sector + 1) * SECTOR - inside;
    for (sector++; n < length; ) {
      if ((sector & 7) === 0 && bitmap[sector >> 3] === skip) {
        n += 8 * SECTOR;
        sector += 8;
      } else if (here(sector) === first) {
        n += SECTOR;
        sector++;
      } else break;
    }
    return { kind: first === 1 ? 'data' : 'absent', length: Math.min(n, length), offset: data, source: this.file };
  }

  protects(offset: number): boolean {
    return offset - this.#bitmapBytes < this.layout.tableOffset + this.layout.tableEntries * 4;
  }

  /** Virtual PC and Hyper-V take a sector without its bit for zeroes: a block that is written gets them all. */
  touch(offset: number): void {
    const block = Math.floor(offset / this.layout.blockSize);
    if (block === this.#touched) return;
    this.#touched = block;
    const page = this.#tables.page(this.#bat.u32(block) * SECTOR, this.#bitmapBytes);
    if (page.bytes.every((x) => x === 0xff)) return;
    page.bytes.fill(0xff);
    this.#tables.changed(page);
  }

  allocate(offset: number): Allocation {
    const { blockSize, footer } = this.layout;
    const file = writable(this.file);
    const start = offset - (offset % blockSize);
    // The new block's bitmap takes the place of the footer, and the footer is at the new end before that happens.
    const at = alignUp(Math.max(file.size - FOOTER_BYTES, this.layout.tableOffset + this.layout.tableEntries * 4), SECTOR);
    const end = at + this.#bitmapBytes + blockSize;
    if (at / SECTOR >= UNUSED) throw new GuestError('no-space', `${file.label}: a dynamic VHD cannot be larger than 2 TiB`);
    grow(file, end + FOOTER_BYTES);
    file.write(footer, end);
    file.write(new Uint8Array(this.#bitmapBytes).fill(0xff), at);
    return { start, length: blockSize, source: file, offset: at + this.#bitmapBytes };
  }

  commit(a: Allocation): void {
    this.#bat.set32(a.start / this.layout.blockSize, (a.offset - this.#bitmapBytes) / SECTOR);
  }

  sync(): void {
    this.#tables.sync();
  }

  describe(): ImageInfo {
    const { layout } = this;
    return {
      format: 'vpc',
      virtualSize: this.size,
      clusterSize: layout.blockSize,
      ...(layout.differencing && layout.parentName !== undefined ? { backingName: layout.parentName, backingFormat: 'vpc' } : {}),
      snapshots: [],
      features: layout.differencing ? ['differencing'] : [],
    };
  }

  check(): CheckResult {
    const findings = new Findings();
    const { blockSize, tableOffset, tableEntries } = this.layout;
    const { file } = this;
    const total = Math.ceil(this.size / blockSize);
    const stride = this.#bitmapBytes + blockSize;
    const use = new BlockUse(Math.ceil(file.size / SECTOR));
    let allocated = 0;
    let fragmented = 0;
    let next = -1;
    let end = tableOffset + tableEntries * 4;
    for (let i = 0; i < total; i++) {
      const entry = this.#bat.u32(i);
      if (entry === UNUSED) continue;
      const at = entry * SECTOR;
      const where = `${file.label}: block ${i} at ${hex(at)}`;
      if (at + stride > file.size) findings.add('corruption', i * blockSize, blockSize, `${where} is past the end of the file`);
      else if (at < tableOffset + tableEntries * 4)
        findings.add('corruption', i * blockSize, blockSize, `${where} lies in the allocation table`);
      else if (!use.take(entry)) findings.add('corruption', i * blockSize, blockSize, `${where} is used by another block too`);
      allocated++;
      if (next >= 0 && at !== next) fragmented++;
      next = at + stride;
      end = Math.max(end, next);
    }
    return findings.result({
      totalClusters: total,
      allocatedClusters: allocated,
      fragmentedClusters: fragmented,
      imageEnd: end + FOOTER_BYTES,
    });
  }

  close(): void {
    this.backing?.close();
  }
}
