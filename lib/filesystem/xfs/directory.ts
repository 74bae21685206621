import { corrupt, type GuestError, hex } from '../../core/errors.js';
import { type ExtentMap, forkBlocks, mapOf } from './extents.js';
import type { Inode } from './inode.js';
import { DATA_HEADER, DATA_LAYOUT, DIR_BLOCK_MAGIC, DIR_DATA_MAGIC, DIR_LEAF_OFFSET, FORMAT } from './structs.js';

/** A name found in a directory: positions, so that nothing is decoded that nobody asks for.  True stops. */
export type Visit = (block: Uint8Array, name: number, nameLength: number, ino: number, type: number) => boolean | undefined;

const FREE_TAG = 0xffff;

/** A directory block: entries lie in [from, to); `leaf` is set when its hash index is in the same block. */
export interface DataBlock {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly from: number;
  readonly to: number;
  readonly leaf?: { readonly at: number; readonly count: number };
}

/** A directory of any format. */
export class Directory {
  readonly #typed: 0 | 1;
  readonly #perBlock: number;
  #map: ExtentMap | undefined;

  constructor(readonly inode: Inode) {
    inode.requireKind('directory', 'not-a-directory');
    const { sb } = inode.volume;
    this.#typed = sb.ftype ? 1 : 0;
    this.#perBlock = sb.dirBlockSize / sb.blockSize;
  }

  get isShort(): boolean {
    return this.inode.fields.format === FORMAT.local;
  }
  get map(): ExtentMap {
    return (this.#map ??= mapOf(this.inode, this.inode.dataFork));
  }

  #bad(at: number, problem: string): GuestError {
    return corrupt(`xfs: directory inode ${this.inode.ino}, block at ${hex(at)}: ${problem}`, { offset: at });
  }

  /** Entries kept in the inode; the number of the parent. */
  scanShort(visit: Visit): number {
    const b = this.inode.dataFork.bytes;
    const { size } = this.inode;
    const bad = (problem: string) => this.inode.corrupt(`short directory: ${problem}`);
    if (size > b.length || size < 6) throw bad(`${size} bytes, the inode has room for ${b.length}`);
    const d = new DataView(b.buffer, b.byteOffset, size);
    const count = b[0]!;
    const wide = b[1]! > 0;
    const number = (o: number) => (wide ? d.getUint32(o) * 2 ** 32 + d.getUint32(o + 4) : d.getUint32(o));
    const numberSize = wide ? 8 : 4;
    let o = 2 + numberSize;
    if (o > size) throw bad(`${size} bytes`);
    const parent = number(2);
    for (let i = 0; i < count; i++) {
      const name = o + 3;
      const length = o < size ? b[o]! : 0;
      const after = name + length + this.#typed;
      if (length === 0 || after + numberSize > size) throw bad(`entry ${i} at ${o} goes past the end (${size} bytes)`);
      if (visit(b, name, length, number(after), this.#typed ? b[after - 1]! : 0) === true) break;
      o = after + numberSize;
    }
    return parent;
  }

  /** The block that holds the byte `address` of the directory, or undefined where there is none. */
  block(address: number): DataBlock | undefined {
    const { volume } = this.inode;
    const first = Math.floor(address / volume.sb.dirBlockSize) * this.#perBlock;
    const found = forkBlocks(this.inode, this.map, first, this.#perBlock);
    if (found === undefined) return undefined;
    const { bytes, at } = found;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const magic = view.getUint32(0);
    const single = magic === DIR_BLOCK_MAGIC[volume.form];
    if (!single && magic !== DIR_DATA_MAGIC[volume.form]) throw this.#bad(at, `magic is ${hex(magic)}`);
    volume.verify(bytes, at, DATA_LAYOUT, this.inode.ino, 'directory block');
    const from = DATA_HEADER[volume.form];
    if (!single) return { bytes, view, at, from, to: bytes.length };
    const count = view.getUint32(bytes.length - 8);
    const to = bytes.length - 8 - count * 8;
    if (to < from) throw this.#bad(at, `an index of ${count} entries does not fit`);
    return { bytes, view, at, from, to, leaf: { at: to, count } };
  }

  /** All blocks with entries, in order. */
  *blocks(): Generator<DataBlock> {
    const { volume } = this.inode;
    const end = DIR_LEAF_OFFSET / volume.blockSize;
    const seen = new Set<number>();
    for (let logical = 0; logical < end; ) {
      const piece = this.map.find(logical);
      const stop = Math.min(end, piece.logical + piece.count);
      if (piece.at < 0) {
        // Up to the block that begins in or after what follows the hole.
        logical = Math.max(logical + this.#perBlock, Math.floor(stop / this.#perBlock) * this.#perBlock);
        continue;
      }
      for (; logical < stop; logical += this.#perBlock) {
        const block = this.block(logical * volume.blockSize);
        if (block === undefined) throw this.inode.corrupt(`directory block ${logical} is partly a hole`);
        if (seen.has(block.at)) throw this.#bad(block.at, 'is used twice');
        seen.add(block.at);
        yield block;
        if (block.leaf !== undefined) return;
      }
    }
  }

  /** Calls `visit` for each name of a block until it returns true. */
  scan(block: DataBlock, visit: Visit): void {
    for (let o = block.from; o < block.to; ) {
      if (block.view.getUint16(o) === FREE_TAG) {
        const length = o + 4 <= block.to ? block.view.getUint16(o + 2) : 0;
        if (length < 8 || length % 8 !== 0 || o + length > block.to)
          throw this.#bad(block.at, `free space of ${length} bytes at ${hex(o)}`);
        o += length;
      } else {
        const length = this.entry(block, o, visit);
        if (length < 0) return;
        o += length;
      }
    }
  }

  /** Visits the entry at `o`; its length, or -1 when `visit` said true. */
  entry(block: DataBlock, o: number, visit: Visit): number {
    const { bytes, view, to } = block;
    const nameLength = o + 16 <= to ? bytes[o + 8]! : 0;
    const length = (11 + nameLength + this.#typed + 7) & ~7;
    if (nameLength === 0 || o + length > to) throw this.#bad(block.at, `entry at ${hex(o)} is damaged or goes past the end`);
    const ino = view.getUint32(o) * 2 ** 32 + view.getUint32(o + 4);
    const type = this.#typed ? bytes[o + 9 + nameLength]! : 0;
    return visit(bytes, o + 9, nameLength, ino, type) === true ? -1 : length;
  }
}
