import type { BlockSource } from '../../block/source.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import type { CheckResult, ImageInfo } from '../format.js';
import { type Allocation, BlockUse, Findings, grow, type Mapping, type Piece, writable } from '../mapped.js';
import { EntryTable, TableCache } from '../tables.js';
import { DISCARDED, Header, imageType, UNALLOCATED } from './structs.js';

const LOOK_AHEAD = 65536;
const MAX_NEW_BYTES = 64 << 20;

export interface Layout {
  readonly diskSize: number;
  readonly blockSize: number;
  /** Bytes before each block's data that belong to it. */
  readonly blockExtra: number;
  readonly offsetMap: number;
  readonly offsetData: number;
  readonly blocksInImage: number;
  readonly blocksAllocated: number;
  readonly type: number;
  readonly uuid: Uint8Array;
}

export class VdiMapping implements Mapping {
  readonly format = 'vdi';
  readonly sectorSize = 512;
  readonly size: number;
  readonly uuid: Uint8Array;
  readonly #tables: TableCache;
  readonly #map: EntryTable;
  readonly #stride: number;
  /** The next block number that is free; set when the first block is allocated. */
  #next = -1;

  constructor(
    readonly file: BlockSource,
    private readonly layout: Layout,
    readonly backing: BlockSource | undefined,
  ) {
    this.size = layout.diskSize;
    this.uuid = layout.uuid;
    this.#stride = layout.blockSize + layout.blockExtra;
    this.#tables = new TableCache(file, 'block map');
    this.#map = new EntryTable(this.#tables, layout.offsetMap, layout.blocksInImage, 4, true);
  }

  #at(entry: number): number {
    return this.layout.offsetData + entry * this.#stride + this.layout.blockExtra;
  }

  locate(offset: number, length: number): Piece {
    const { blockSize, blockExtra, type } = this.layout;
    let block = Math.floor(offset / blockSize);
    const inside = offset - block * blockSize;
    const entry = this.#map.u32(block);
    const kind = entry === UNALLOCATED ? 'absent' : entry === DISCARDED ? 'zero' : 'data';
    let n = blockSize - inside;
    if (kind !== 'data' || blockExtra === 0)
      for (let steps = 1; n < length && steps < LOOK_AHEAD; steps++) {
        if (this.#map.u32(++block) !== (kind === 'data' ? entry + steps : entry)) break;
        n += blockSize;
      }
    return {
      kind,
      length: Math.min(n, length),
      offset: kind === 'data' ? this.#at(entry) + inside : 0,
      source: this.file,
      flat: type === imageType.static,
    };
  }

  /** Blocks are numbered in order of allocation.  The header's count is believed only where file and map agree. */
  #nextFree(): number {
    const { blocksInImage, blocksAllocated, offsetData } = this.layout;
    if (this.#next >= 0) return this.#next;
    const inFile = Math.max(0, Math.ceil((this.file.size - offsetData) / this.#stride));
    let next = Math.min(blocksAllocated, inFile);
    if (blocksAllocated !== inFile)
      for (let i = 0; i < blocksInImage; i++) {
        const entry = this.#map.u32(i);
        if (entry < inFile && entry >= next) next = entry + 1;
      }
    return (this.#next = next);
  }

  allocate(offset: number, length: number): Allocation {
    const { blockSize, blockExtra, offsetData } = this.layout;
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    const count = blockExtra > 0 ? 1 : Math.min(last - first + 1, Math.max(1, Math.floor(MAX_NEW_BYTES / blockSize)));
    const file = writable(this.file);
    const number = this.#nextFree();
    if (offsetData > file.size)
      throw corrupt(`${file.label}: data area at ${hex(offsetData)} is past the end of the file (size ${hex(file.size)})`, {
        offset: offsetData,
      });
    if (number + count >= DISCARDED) throw new GuestError('no-space', `${file.label}: the block map is full`);
    const at = offsetData + number * this.#stride;
    const end = at + count * this.#stride;
    // What lies past the last block, if anything, is not ours and may not be zero.
    if (at < file.size) file.zero(at, Math.min(file.size, end) - at);
    grow(file, end);
    this.#next = number + count;
    return { start: first * blockSize, length: count * blockSize, source: file, offset: at + blockExtra, ticket: number };
  }

  commit(a: Allocation): void {
    const { blockSize } = this.layout;
    for (let i = 0; i < a.length / blockSize; i++) this.#map.set32(a.start / blockSize + i, (a.ticket as number) + i);
  }

  /** The count goes before the map: a block that is counted but not mapped is only lost, the other way it would be given out twice. */
  sync(): void {
    if (!this.#tables.dirty) return;
    const file = writable(this.file);
    if (this.#next >= 0) {
      const b = new Uint8Array(4);
      new DataView(b.buffer).setUint32(0, this.#next, true);
      file.write(b, Header.offset.blocksAllocated);
    }
    this.#tables.sync();
  }

  describe(): ImageInfo {
    const { type, blockSize } = this.layout;
    return {
      format: 'vdi',
      virtualSize: this.size,
      clusterSize: blockSize,
      snapshots: [],
      features: type === imageType.static ? ['static'] : type === imageType.differencing ? ['differencing'] : [],
    };
  }

  check(): CheckResult {
    const findings = new Findings();
    const { blocksInImage, blocksAllocated, blockSize, offsetData } = this.layout;
    const { file } = this;
    const use = new BlockUse(blocksInImage);
    let allocated = 0;
    let fragmented = 0;
    let next = -1;
    let highest = -1;
    const count = this.#next >= 0 ? this.#next : blocksAllocated;
    for (let i = 0; i < blocksInImage; i++) {
      const entry = this.#map.u32(i);
      if (entry >= DISCARDED) continue;
      allocated++;
      if (next >= 0 && entry !== next) fragmented++;
      next = entry + 1;
      highest = Math.max(highest, entry);
      const where = `${file.label}: block ${i} is block ${hex(entry)} of the file`;
      if (entry >= count) findings.add('corruption', i * blockSize, blockSize, `${where}, which has ${count}`);
      else if (this.#at(entry) + Math.min(blockSize, this.size - i * blockSize) > file.size)
        findings.add('corruption', i * blockSize, blockSize, `${where}, past its end`);
      else if (!use.take(entry)) findings.add('corruption', i * blockSize, blockSize, `${where}, which another block is too`);
    }
    // More counted than mapped is what a crash between the two leaves: space that is lost, not bytes that are wrong.
    if (allocated !== count)
      findings.add(
        allocated < count ? 'leak' : 'corruption',
        Header.offset.blocksAllocated,
        4,
        `${file.label}: the header counts ${count} blocks, the map has ${allocated}`,
      );
    return findings.result({
      totalClusters: Math.ceil(this.size / blockSize),
      allocatedClusters: allocated,
      fragmentedClusters: fragmented,
      imageEnd: offsetData + (highest + 1) * this.#stride,
    });
  }

  close(): void {
    this.backing?.close();
  }
}
