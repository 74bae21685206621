import { randomBytes } from 'node:crypto';
import type { BlockSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import type { CheckResult, ImageInfo } from '../format.js';
import { type Allocation, BlockUse, Findings, grow, type Mapping, type Piece, writable } from '../mapped.js';
import { EntryTable, TableCache } from '../tables.js';
import { type Headers, type Regions, writeHeader } from './header.js';
import type { Metadata } from './metadata.js';
import { guidText, MIB, state } from './structs.js';

const LOOK_AHEAD = 65536;
const MAX_NEW_BYTES = 64 * MIB;
/** Bits of one sector bitmap block of 1 MiB. */
const BITMAP_BITS = MIB * 8;

/** Payload blocks that one sector bitmap block covers; the BAT has its entry behind theirs. */
export const chunkRatioOf = (m: { blockSize: number; logicalSectorSize: number }) =>
  (BITMAP_BITS * m.logicalSectorSize) / m.blockSize;

/** Entries of the BAT for a disk. */
export function batEntries(m: { diskSize: number; blockSize: number; logicalSectorSize: number; hasParent: boolean }): number {
  const blocks = Math.ceil(m.diskSize / m.blockSize);
  const ratio = chunkRatioOf(m);
  if (m.hasParent) return Math.ceil(blocks / ratio) * (ratio + 1);
  return blocks === 0 ? 0 : blocks + Math.floor((blocks - 1) / ratio);
}

export class VhdxMapping implements Mapping {
  readonly format = 'vhdx';
  readonly size: number;
  readonly sectorSize: number;
  readonly #tables: TableCache;
  readonly #bat: EntryTable;
  readonly #ratio: number;
  readonly #bitmapPart: number;
  #headers: Headers;

  constructor(
    readonly file: BlockSource,
    readonly metadata: Metadata,
    private readonly regions: Regions,
    headers: Headers,
    readonly backing: BlockSource | undefined,
    private readonly log: {
      /** Was pending: replayed into memory (reading) or into the file (writing). */
      readonly replayed: boolean;
      readonly inMemory: boolean;
    },
  ) {
    this.size = metadata.diskSize;
    this.sectorSize = metadata.logicalSectorSize;
    this.#headers = headers;
    this.#tables = new TableCache(file, 'block allocation table');
    this.#ratio = chunkRatioOf(metadata);
    this.#bitmapPart = BITMAP_BITS / 8 / this.#ratio;
    const entries = batEntries(metadata);
    if (entries * 8 > regions.bat.length)
      throw corrupt(`${file.label}: BAT region of ${regions.bat.length} bytes is too short for ${entries} entries`);
    if (entries > 0 && regions.bat.offset + entries * 8 > file.size)
      throw corrupt(
        `${file.label}: BAT of ${entries} entries at ${hex(regions.bat.offset)} is past the end of the file (size ${hex(file.size)})`,
        { offset: regions.bat.offset },
      );
    this.#bat = new EntryTable(this.#tables, regions.bat.offset, entries, 8, true);
  }

  get dataWriteGuid(): string {
    return guidText(this.#headers.fields.dataWriteGuid);
  }

  #index(block: number): number {
    return block + Math.floor(block / this.#ratio);
  }

  /** Where BAT entry `i` points, in MiB. */
  #megabytes(i: number): number {
    return this.#bat.high(i) * 4096 + (this.#bat.u32(i) >>> 20);
  }

  #offset(i: number): number {
    const mb = this.#megabytes(i);
    if (mb < 1 || mb > 0xffffffff) throw corrupt(`${this.file.label}: BAT entry ${i} has file offset ${hex(mb)} MiB`);
    return mb * MIB;
  }

  #kind(s: number, i: number): 'data' | 'zero' | 'absent' | 'partial' {
    switch (s) {
      case state.notPresent:
        return 'absent';
      case state.undefined:
      case state.zero:
      case state.unmapped:
      // What Hyper-V's preview wrote for unmapped blocks; QEMU knows it too.
      case 5:
        return 'zero';
      case state.fullyPresent:
        return 'data';
      case state.partiallyPresent:
        if (this.metadata.hasParent) return 'partial';
        throw corrupt(`${this.file.label}: BAT entry ${i} is partially present, but the disk has no parent`);
      default:
        throw corrupt(`${this.file.label}: BAT entry ${i} has state ${s}`);
    }
  }

  locate(offset: number, length: number): Piece {
    const { blockSize } = this.metadata;
    const source = this.file;
    let block = Math.floor(offset / blockSize);
    const inside = offset - block * blockSize;
    const i = this.#index(block);
    const s = this.#bat.u32(i) & 7;
    const kind = this.#kind(s, i);
    let n = blockSize - inside;
    if (kind === 'partial') return this.#locateSectors(block, this.#offset(i) + inside, inside, Math.min(n, length));
    const at = kind === 'data' ? this.#offset(i) : 0;
    for (let steps = 1, expected = at / MIB; n < length && steps < LOOK_AHEAD; steps++) {
      const k = this.#index(++block);
      if ((this.#bat.u32(k) & 7) !== s) break;
      if (kind === 'data' && this.#megabytes(k) !== (expected += blockSize / MIB)) break;
      n += blockSize;
    }
    return { kind, length: Math.min(n, length), offset: kind === 'data' ? at + inside : 0, source };
  }

  /** Each sector of a partially present block is here or in the parent: the chunk's bitmap says, lowest bit first. */
  #locateSectors(block: number, data: number, inside: number, length: number): Piece {
    const chunk = Math.floor(block / this.#ratio);
    const entry = chunk * (this.#ratio + 1) + this.#ratio;
    const present = (this.#bat.u32(entry) & 7) === state.fullyPresent;
    if (!present) throw corrupt(`${this.file.label}: block ${block} is partially present, but its sector bitmap is not`);
    const bitmap = this.#tables.page(this.#offset(entry) + (block % this.#ratio) * this.#bitmapPart, this.#bitmapPart).bytes;
    const unit = this.sectorSize;
    const here = (s: number) => (bitmap[s >> 3]! >> (s & 7)) & 1;
    let sector = Math.floor(inside / unit);
    const first = here(sector);
    const whole = first === 1 ? 0xff : 0;
    let n = (sector + 1) * unit - inside;
    for (sector++; n < length; ) {
      if ((sector & 7) === 0 && bitmap[sector >> 3] === whole) {
        n += 8 * unit;
        sector += 8;
      } else if (here(sector) === first) {
        n += unit;
        sector++;
      } else break;
    }
    return { kind: first === 1 ? 'data' : 'absent', length: Math.min(n, length), offset: data, source: this.file };
  }

  protects(offset: number, length: number): boolean {
    const { logOffset, logLength } = this.#headers.fields;
    const hits = (start: number, n: number) => offset < start + n && start < offset + length;
    const { bat, metadata } = this.regions;
    return hits(0, MIB) || hits(logOffset, logLength) || hits(bat.offset, bat.length) || hits(metadata.offset, metadata.length);
  }

  allocate(offset: number, length: number): Allocation {
    const { blockSize } = this.metadata;
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    const count = Math.min(last - first + 1, Math.max(1, Math.floor(MAX_NEW_BYTES / blockSize)));
    const file = writable(this.file);
    const at = alignUp(file.size, MIB);
    grow(file, at + count * blockSize);
    return { start: first * blockSize, length: count * blockSize, source: file, offset: at };
  }

  commit(a: Allocation): void {
    const { blockSize } = this.metadata;
    for (let i = 0; i < a.length / blockSize; i++) {
      const mb = (a.offset + i * blockSize) / MIB;
      this.#bat.set64(this.#index(a.start / blockSize + i), (mb % 4096) * MIB + state.fullyPresent, Math.floor(mb / 4096));
    }
  }

  /** New write ids, so that children and tools can tell that this file and its contents are not what they were. */
  firstWrite(): void {
    this.#headers = writeHeader(writable(this.file), this.#headers, {
      fileWriteGuid: randomBytes(16),
      dataWriteGuid: randomBytes(16),
    });
  }

  /** Only BAT entries change, each in one aligned word after its data: there is no state that needs the log. */
  sync(): void {
    this.#tables.sync();
  }

  describe(): ImageInfo {
    const { metadata } = this;
    const parent =
      metadata.parent.get('relative_path') ?? metadata.parent.get('absolute_win32_path') ?? metadata.parent.get('volume_path');
    return {
      format: 'vhdx',
      virtualSize: this.size,
      clusterSize: metadata.blockSize,
      dirty: this.log.inMemory,
      ...(metadata.hasParent && parent !== undefined ? { backingName: parent, backingFormat: 'vhdx' } : {}),
      snapshots: [],
      features: [...(metadata.hasParent ? ['differencing'] : []), ...(metadata.leaveBlocksAllocated ? ['fixed'] : [])],
    };
  }

  check(): CheckResult {
    const findings = new Findings();
    const { file, regions } = this;
    const { blockSize } = this.metadata;
    if (this.log.inMemory)
      findings.add(
        'corruption',
        this.#headers.fields.logOffset,
        this.#headers.fields.logLength,
        `${file.label}: the log must be replayed`,
      );
    const use = new BlockUse(Math.ceil(file.size / MIB));
    const take = (offset: number, length: number): boolean => {
      let free = true;
      for (let mb = Math.floor(offset / MIB); mb * MIB < Math.min(offset + length, file.size); mb++) free = use.take(mb) && free;
      return free;
    };
    take(0, MIB);
    for (const r of [
      regions.bat,
      regions.metadata,
      { offset: this.#headers.fields.logOffset, length: this.#headers.fields.logLength },
    ])
      take(r.offset, r.length);
    const total = Math.ceil(this.size / blockSize);
    let allocated = 0;
    let fragmented = 0;
    let next = -1;
    let end = regions.metadata.offset + regions.metadata.length;
    for (let b = 0; b < total; b++) {
      const i = this.#index(b);
      try {
        const kind = this.#kind(this.#bat.u32(i) & 7, i);
        if (kind !== 'data' && kind !== 'partial') continue;
        const at = this.#offset(i);
        const where = `${file.label}: block ${b} at ${hex(at)}`;
        if (at + Math.min(blockSize, this.size - b * blockSize) > file.size)
          findings.add('corruption', b * blockSize, blockSize, `${where} is past the end of the file`);
        else if (!take(at, blockSize))
          findings.add('corruption', b * blockSize, blockSize, `${where} overlaps what else is in the file`);
        allocated++;
        if (next >= 0 && at !== next) fragmented++;
        next = at + blockSize;
        end = Math.max(end, next);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
        findings.add('corruption', b * blockSize, blockSize, e.message);
      }
    }
    return findings.result({ totalClusters: total, allocatedClusters: allocated, fragmentedClusters: fragmented, imageEnd: end });
  }

  /** The log was replayed when the file was opened for writing: that is all that can be repaired here. */
  repair(): CheckResult {
    return { ...this.check(), corruptionsFixed: this.log.replayed ? 1 : 0 };
  }

  close(): void {
    this.backing?.close();
    if (this.log.inMemory) this.file.close();
  }
}
