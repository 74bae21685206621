import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, hex } from '../../core/errors.js';
import type { Inode } from './inode.js';
import { EXTENT_MAGIC, EXTENT_MAX_WRITTEN, Extent, ExtentHeader, ExtentIndex } from './structs.js';
import type { Volume } from './volume.js';

/** Blocks of a file that lie together; `physical` 0 is a hole. */
export interface Piece {
  readonly logical: number;
  readonly physical: number;
  readonly count: number;
  /** Allocated but never written: reads as zeroes. */
  readonly unwritten: boolean;
}
export interface BlockMap {
  /** The piece that holds a file's block.  Holes may be cut; asking on behind them goes on. */
  find(logical: number): Piece;
}

/** One past the largest logical block. */
const LOGICAL_END = 2 ** 32;
const MAX_DEPTH = 5;

export function blockMap(inode: Inode): BlockMap {
  const changed = inode.volume.changes?.blocks.get(inode.ino);
  if (changed !== undefined) return new ListMap(changed);
  return inode.has('extents') ? new ExtentMap(inode) : new IndirectMap(inode);
}

/** A file whose blocks replayed fast commits changed: a sorted list in memory. */
class ListMap implements BlockMap {
  constructor(private readonly pieces: readonly Piece[]) {}
  find(logical: number): Piece {
    let lo = 0;
    let hi = this.pieces.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.pieces[mid]!.logical <= logical) lo = mid + 1;
      else hi = mid;
    }
    const p = this.pieces[lo - 1];
    if (p !== undefined && logical < p.logical + p.count) return p;
    return { logical, physical: 0, unwritten: false, count: (this.pieces[lo]?.logical ?? LOGICAL_END) - logical };
  }
}

interface TreeNode {
  readonly block: number;
  readonly view: DataView;
  readonly depth: number;
  readonly entries: number;
  readonly low: number;
  readonly high: number;
}

/** ext4's extent tree, descended lazily: a hostile tree costs no more than what is asked of it. */
class ExtentMap implements BlockMap {
  readonly #volume: Volume;
  readonly #root: TreeNode;
  /** The last node seen at each depth: sequential reading finds its leaf here. */
  readonly #last: (TreeNode | undefined)[] = [];
  #seed: number | undefined;

  constructor(private readonly inode: Inode) {
    this.#volume = inode.volume;
    const raw = inode.fields.block;
    const depth = ExtentHeader.at(raw).depth;
    if (depth > MAX_DEPTH) throw this.#bad(0, `depth ${depth} (at most ${MAX_DEPTH})`);
    this.#root = this.#check(raw, 0, depth, 0, LOGICAL_END);
  }

  #bad(block: number, what: string) {
    const offset = block === 0 ? this.#volume.inodeOffset(this.inode.ino) : block * this.#volume.blockSize;
    return corrupt(`ext: extent tree of inode ${this.inode.ino} at ${hex(offset)}: ${what}`, { offset });
  }

  #load(block: number, depth: number, low: number, high: number): TreeNode {
    const known = this.#last[depth];
    if (known !== undefined && known.block === block && known.low === low && known.high === high) return known;
    const raw = this.#volume.block(block);
    const node = this.#check(raw, block, depth, low, high);
    if (this.#volume.sb.metaCsum) {
      const tail = 12 + 12 * ExtentHeader.at(raw).max;
      if (tail + 4 > raw.length) throw this.#bad(block, 'no room for its checksum');
      this.#seed ??= this.inode.csumSeed;
      const expected = crc32cRaw(raw.subarray(0, tail), this.#seed);
      const stored = node.view.getUint32(tail, true);
      if (stored !== expected) throw this.#bad(block, `checksum is ${hex(stored)}, expected ${hex(expected)}`);
    }
    this.#last[depth] = node;
    return node;
  }

  /** Entries must be sorted and inside what the parent promised, so that no node can stand in two places. */
  #check(raw: Uint8Array, block: number, depth: number, low: number, high: number): TreeNode {
    const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
    const h = ExtentHeader.at(raw);
    if (h.magic !== EXTENT_MAGIC) throw this.#bad(block, `magic is ${hex(h.magic)}, expected ${hex(EXTENT_MAGIC)}`);
    if (h.depth !== depth) throw this.#bad(block, `depth is ${h.depth}, expected ${depth}`);
    const { entries, max } = h;
    if (entries > max || 12 + 12 * max > raw.length) throw this.#bad(block, `${entries} entries, room for ${max}`);
    if (depth > 0 && entries === 0) throw this.#bad(block, 'an index without entries');
    let next = low;
    for (let i = 0, o = 12; i < entries; i++, o += 12) {
      const first = view.getUint32(o + Extent.offset.block, true);
      if (first < next || first >= high)
        throw this.#bad(block, `entry ${i} starts at block ${first}, allowed are ${next} to ${high - 1}`);
      if (depth > 0) {
        next = first + 1;
        continue;
      }
      const length = this.#lengthAt(view, o);
      if (length === 0 || first + length > high) throw this.#bad(block, `entry ${i} has ${length} blocks from ${first}`);
      this.#volume.checkBlocks(this.#startAt(view, o), length, `extent of inode ${this.inode.ino},`);
      next = first + length;
    }
    return { block, view, depth, entries, low, high };
  }

  #lengthAt(v: DataView, o: number): number {
    const n = v.getUint16(o + Extent.offset.len, true);
    return n > EXTENT_MAX_WRITTEN ? n - EXTENT_MAX_WRITTEN : n;
  }
  #startAt(v: DataView, o: number): number {
    return v.getUint32(o + Extent.offset.startLo, true) + v.getUint16(o + Extent.offset.startHi, true) * 2 ** 32;
  }

  find(logical: number): Piece {
    let node = this.#root;
    for (;;) {
      const v = node.view;
      let lo = 0;
      let hi = node.entries;
      while (lo < hi) {
        const mid = (lo + hi) >> 1;
        if (v.getUint32(12 + 12 * mid, true) <= logical) lo = mid + 1;
        else hi = mid;
      }
      const next = lo < node.entries ? v.getUint32(12 + 12 * lo, true) : node.high;
      if (lo === 0) return { logical, physical: 0, unwritten: false, count: next - logical };
      const o = 12 * lo;
      const first = v.getUint32(o, true);
      if (node.depth === 0) {
        const length = this.#lengthAt(v, o);
        if (logical >= first + length) return { logical, physical: 0, unwritten: false, count: next - logical };
        const unwritten = v.getUint16(o + Extent.offset.len, true) > EXTENT_MAX_WRITTEN;
        return { logical: first, physical: this.#startAt(v, o), unwritten, count: length };
      }
      const child = v.getUint32(o + ExtentIndex.offset.leafLo, true) + v.getUint16(o + ExtentIndex.offset.leafHi, true) * 2 ** 32;
      node = this.#load(child, node.depth - 1, first, next);
    }
  }
}

/** ext2/3: 12 direct pointers, then trees of one, two and three levels of pointer blocks. */
class IndirectMap implements BlockMap {
  readonly #volume: Volume;
  readonly #pointers: DataView;
  readonly #perBlock: number;

  constructor(private readonly inode: Inode) {
    this.#volume = inode.volume;
    const raw = inode.fields.block;
    this.#pointers = new DataView(raw.buffer, raw.byteOffset, 60);
    this.#perBlock = this.#volume.blockSize / 4;
  }

  find(logical: number): Piece {
    if (logical < 12) return this.#scan(this.#pointers, logical, 12, logical);
    const n = this.#perBlock;
    let index = logical - 12;
    let span = n;
    let level = 1;
    while (index >= span) {
      index -= span;
      span *= n;
      // Past what three levels reach: nothing can be there.
      if (++level > 3) return { logical, physical: 0, unwritten: false, count: LOGICAL_END - logical };
    }
    let block = this.#pointers.getUint32((11 + level) * 4, true);
    for (;;) {
      if (block === 0) return { logical, physical: 0, unwritten: false, count: span - index };
      const raw = this.#block(block);
      span /= n;
      if (span === 1) return this.#scan(raw, index, n, logical);
      const slot = Math.floor(index / span);
      index -= slot * span;
      block = raw.getUint32(slot * 4, true);
    }
  }

  #block(n: number): DataView {
    this.#volume.checkBlocks(n, 1, `indirect block of inode ${this.inode.ino},`);
    const raw = this.#volume.block(n);
    return new DataView(raw.buffer, raw.byteOffset, raw.length);
  }

  /** How many pointers from `index` on continue each other. */
  #scan(v: DataView, index: number, end: number, logical: number): Piece {
    const physical = v.getUint32(index * 4, true);
    const step = physical === 0 ? 0 : 1;
    let count = 1;
    while (index + count < end && v.getUint32((index + count) * 4, true) === physical + step * count) count++;
    if (physical !== 0) this.#volume.checkBlocks(physical, count, `data of inode ${this.inode.ino},`);
    return { logical, physical, unwritten: false, count };
  }
}
