import { corrupt, type GuestError, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { type ExtentMap, forkBlocks } from './extents.js';
import type { Inode } from './inode.js';
import { DA_LAYOUT, DA_NODE_MAGIC } from './structs.js';

/** A block of hash entries at the bottom of the tree. */
export interface HashLeaf {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly magic: number;
  readonly count: number;
  /** Where the fields after the common header and the count begin. */
  readonly forw: number;
}

/** The tree of hashes that indexes a large directory, and holds the attributes when they need more than one block. */
export class HashTree {
  readonly #blocks: number;

  constructor(
    readonly inode: Inode,
    private readonly map: ExtentMap,
    /** Block of the fork where the root is. */
    private readonly root: number,
    private readonly blockBytes: number,
    private readonly leafMagics: readonly number[],
    private readonly what: string,
  ) {
    this.#blocks = blockBytes / inode.volume.blockSize;
  }

  #bad(at: number, problem: string): GuestError {
    return corrupt(`xfs: ${this.what} of inode ${this.inode.ino} at ${hex(at)}: ${problem}`, { offset: at });
  }

  #load(block: number): HashLeaf & { readonly isNode: boolean; readonly level: number } {
    const { inode } = this;
    const { volume } = inode;
    const found = forkBlocks(inode, this.map, block, this.#blocks);
    if (found === undefined) throw inode.corrupt(`${this.what}: block ${block} is a hole`);
    const { bytes, at } = found;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const magic = view.getUint16(8);
    const isNode = magic === DA_NODE_MAGIC[volume.form];
    if (!isNode && !this.leafMagics.includes(magic)) throw this.#bad(at, `magic is ${hex(magic)}`);
    volume.verify(bytes, at, DA_LAYOUT, inode.ino, this.what);
    const after = volume.sb.v5 ? 56 : 12;
    return {
      bytes,
      view,
      at,
      magic,
      count: view.getUint16(after),
      forw: view.getUint32(0),
      isNode,
      level: view.getUint16(after + 2),
    };
  }

  /** The first leaf that may hold the hash, or the first of all for 0; undefined when all hashes are smaller. */
  leafFor(hash: number): HashLeaf | undefined {
    let block = this.root;
    let above = limits.treeDepth + 1;
    // The level sinks by one each time: the loop ends.
    for (;;) {
      const node = this.#load(block);
      if (!node.isNode) {
        if (above <= limits.treeDepth && above !== 1) throw this.#bad(node.at, `a leaf below a node of level ${above}`);
        return node;
      }
      if (node.level === 0 || node.level >= above || (above <= limits.treeDepth && node.level !== above - 1))
        throw this.#bad(node.at, `level is ${node.level}`);
      above = node.level;
      const entries = this.inode.volume.sb.v5 ? 64 : 16;
      const room = Math.floor((this.blockBytes - entries) / 8);
      if (node.count === 0 || node.count > room) throw this.#bad(node.at, `has ${node.count} entries, there is room for ${room}`);
      const i = firstNotBelow(node.view, entries, node.count, hash);
      if (i === node.count) return undefined;
      block = node.view.getUint32(entries + i * 8 + 4);
    }
  }

  /** The leaf and all after it.  Stops at a chain that comes back to where it was. */
  *from(first: HashLeaf): Generator<HashLeaf> {
    const seen = new Set<number>([first.at]);
    for (let leaf = first; ; ) {
      yield leaf;
      if (leaf.forw === 0) return;
      const next = this.#load(leaf.forw);
      if (next.isNode || seen.has(next.at)) throw this.#bad(leaf.at, `the next leaf is said to be block ${leaf.forw}`);
      seen.add(next.at);
      leaf = next;
    }
  }
}

/** Of entries of 8 bytes that start with a hash, in order: the first that is not smaller. */
export function firstNotBelow(d: DataView, at: number, count: number, hash: number): number {
  let lo = 0;
  let hi = count;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (d.getUint32(at + mid * 8) < hash) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}
