import { corrupt, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { Lru } from '../../core/lru.js';
import type { Fork, Inode } from './inode.js';
import { BMBT_HEADER, BMBT_LAYOUT, BMBT_MAGIC, FORMAT } from './structs.js';

/** A stretch of a fork: blocks that lie together, or a hole.  `at` is a byte offset in the source, -1 for what reads as zeroes. */
export interface Piece {
  readonly logical: number;
  readonly count: number;
  readonly at: number;
  readonly unwritten: boolean;
}

/** Where a fork's blocks are. */
export interface ExtentMap {
  /** The piece that holds a block of the fork; a hole may be given in parts. */
  find(logical: number): Piece;
}

const RECORD = 16;
const END = Number.MAX_SAFE_INTEGER;

/** Records of one leaf, checked, that speak for the blocks [from, to). */
class Leaf {
  readonly #start: Float64Array;
  readonly #count: Float64Array;
  readonly #at: Float64Array;
  readonly #unwritten: Uint8Array;

  constructor(
    inode: Inode,
    b: Uint8Array,
    first: number,
    readonly records: number,
    readonly from: number,
    readonly to: number,
  ) {
    const { volume } = inode;
    this.#start = new Float64Array(records);
    this.#count = new Float64Array(records);
    this.#at = new Float64Array(records);
    this.#unwritten = new Uint8Array(records);
    const d = new DataView(b.buffer, b.byteOffset, b.length);
    let next = from;
    for (let i = 0, o = first; i < records; i++, o += RECORD) {
      const w0 = d.getUint32(o);
      const w1 = d.getUint32(o + 4);
      const w3 = d.getUint32(o + 12);
      const start = (w0 & 0x7fffffff) * 2 ** 23 + (w1 >>> 9);
      const block = (w1 & 0x1ff) * 2 ** 43 + d.getUint32(o + 8) * 2 ** 11 + (w3 >>> 21);
      const count = w3 & 0x1fffff;
      if (count === 0 || start < next || start + count > to)
        throw inode.corrupt(`extent ${i} covers blocks ${start}+${count}, expected a range within ${next}-${to}`);
      this.#start[i] = start;
      this.#count[i] = count;
      this.#at[i] = volume.offsetOf(block, count, `inode ${inode.ino}, extent ${i}`);
      this.#unwritten[i] = w0 >>> 31;
      next = start + count;
    }
  }

  find(logical: number): Piece {
    let lo = 0;
    let hi = this.records;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.#start[mid]! <= logical) lo = mid + 1;
      else hi = mid;
    }
    const i = lo - 1;
    if (i >= 0 && logical < this.#start[i]! + this.#count[i]!)
      return {
        logical: this.#start[i]!,
        count: this.#count[i]!,
        at: this.#at[i]!,
        unwritten: this.#unwritten[i] !== 0,
      };
    const end = lo < this.records ? this.#start[lo]! : this.to;
    return { logical, count: end - logical, at: -1, unwritten: false };
  }
}

/** The map of a fork that has extents. */
export function mapOf(inode: Inode, fork: Fork): ExtentMap {
  if (fork.format === FORMAT.extents) {
    const room = Math.floor(fork.bytes.length / RECORD);
    if (fork.extents > room) throw inode.corrupt(`${fork.extents} extents, the inode has room for ${room}`);
    return new Leaf(inode, fork.bytes, 0, fork.extents, 0, END);
  }
  if (fork.format === FORMAT.btree) return new Tree(inode, fork.bytes);
  throw inode.corrupt(`a ${inode.kind} has a fork of format ${fork.format}`);
}

/** Decoded records one tree keeps. */
const RECORDS_KEPT = 1 << 14;

/** A tree of extents.  Decoded leaves are kept: files are mostly read in order, but names of a directory are looked up anywhere. */
class Tree implements ExtentMap {
  #leaf: Leaf | undefined;
  readonly #leaves = new Lru<number, Leaf>(RECORDS_KEPT);

  constructor(
    private readonly inode: Inode,
    private readonly root: Uint8Array,
  ) {}

  find(logical: number): Piece {
    if (this.#leaf === undefined || logical < this.#leaf.from || logical >= this.#leaf.to) this.#leaf = this.#descend(logical);
    return this.#leaf.find(logical);
  }

  #descend(logical: number): Leaf {
    const { inode, root } = this;
    const { volume } = inode;
    if (root.length < 4) throw inode.corrupt('no room for the root of its tree of extents');
    let d = new DataView(root.buffer, root.byteOffset, root.length);
    let level = d.getUint16(0);
    let count = d.getUint16(2);
    let keys = 4;
    let room = Math.floor((root.length - keys) / RECORD);
    let from = 0;
    let to = END;
    if (level === 0 || level > limits.treeDepth) throw inode.corrupt(`its tree of extents is ${level} levels high`);
    // The level sinks by one each time: the loop ends.
    for (;;) {
      if (count === 0 || count > room)
        throw inode.corrupt(`a block of its tree of extents has ${count} keys, there is room for ${room}`);
      let lo = 1;
      let hi = count;
      while (lo < hi) {
        const mid = (lo + hi) >> 1;
        if (key(d, keys + mid * 8) <= logical) lo = mid + 1;
        else hi = mid;
      }
      if (lo > 1) from = key(d, keys + (lo - 1) * 8);
      if (lo < count) to = Math.min(to, key(d, keys + lo * 8));
      if (logical < from || logical >= to) throw inode.corrupt('the keys of its tree of extents are out of order');
      const block = key(d, keys + room * 8 + (lo - 1) * 8);
      const at = volume.offsetOf(block, 1, `inode ${inode.ino}, tree of extents`);
      const kept = level === 1 ? this.#leaves.get(at) : undefined;
      if (kept !== undefined && logical >= kept.from && logical < kept.to) return kept;
      const b = volume.cache.view(at, volume.blockSize);
      const bad = (problem: string) =>
        corrupt(`xfs: inode ${inode.ino}, tree of extents at ${hex(at)}: ${problem}`, { offset: at });
      d = new DataView(b.buffer, b.byteOffset, b.length);
      const magic = BMBT_MAGIC[volume.form];
      if (d.getUint32(0) !== magic) throw bad(`magic is ${hex(d.getUint32(0))}, expected ${hex(magic)}`);
      volume.verify(b, at, BMBT_LAYOUT, inode.ino, 'tree of extents');
      if (d.getUint16(4) !== level - 1) throw bad(`level is ${d.getUint16(4)}, expected ${level - 1}`);
      level--;
      count = d.getUint16(6);
      keys = BMBT_HEADER[volume.form];
      room = Math.floor((volume.blockSize - keys) / RECORD);
      if (level === 0) {
        if (count > room) throw bad(`has ${count} extents, there is room for ${room}`);
        const leaf = new Leaf(inode, b, keys, count, from, to);
        this.#leaves.set(at, leaf, Math.max(1, count));
        return leaf;
      }
    }
  }
}

/** 64 bits that may be too large for any filesystem; what is too large is out of order or out of range, and found to be so. */
const key = (d: DataView, at: number): number => d.getUint32(at) * 2 ** 32 + d.getUint32(at + 4);

/** Blocks of a fork as bytes, or undefined when part of them is a hole.  `at` is where the first lies. */
export function forkBlocks(
  inode: Inode,
  map: ExtentMap,
  logical: number,
  count: number,
): { readonly bytes: Uint8Array; readonly at: number } | undefined {
  const { volume } = inode;
  const { blockSize } = volume;
  const first = map.find(logical);
  if (first.at < 0 || first.unwritten) return undefined;
  const at = first.at + (logical - first.logical) * blockSize;
  if (logical + count <= first.logical + first.count) return { bytes: volume.cache.view(at, count * blockSize), at };
  const bytes = new Uint8Array(count * blockSize);
  for (let i = 0; i < count; ) {
    const piece = map.find(logical + i);
    if (piece.at < 0 || piece.unwritten) return undefined;
    const n = Math.min(count - i, piece.logical + piece.count - logical - i);
    volume.cache.read(bytes.subarray(i * blockSize, (i + n) * blockSize), piece.at + (logical + i - piece.logical) * blockSize);
    i += n;
  }
  return { bytes, at };
}
