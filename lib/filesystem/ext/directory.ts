import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, hex } from '../../core/errors.js';
import type { NameChange } from './changes.js';
import { Contents } from './contents.js';
import type { Inode } from './inode.js';
import { DIRENT_TAIL_TYPE, Dirent, INCOMPAT } from './structs.js';

/** A name found in a block of a directory: positions, so that nothing is decoded that nobody asks for. */
export type Visit = (block: Uint8Array, name: number, nameLength: number, ino: number, type: number) => boolean | undefined;

/** Blocks of one directory that may be unreadable before we give up: listing must end. */
const BAD_BLOCKS_MAX = 1000;

/** Record length 12, no name, the tail's type. */
const TAIL_HEADER = DIRENT_TAIL_TYPE * 2 ** 24 + 12;

/** The blocks of a directory in order.  An inline directory is one or two short blocks. */
export class Directory {
  readonly inode: Inode;
  readonly contents: Contents;
  readonly hasFileType: boolean;
  #seed: number | undefined;

  constructor(inode: Inode) {
    inode.requireKind('directory', 'not-a-directory');
    this.inode = inode;
    this.contents = new Contents(inode);
    this.hasFileType = (inode.volume.sb.incompat & INCOMPAT.filetype) !== 0;
  }

  /** Names that replayed fast commits added or took away. */
  get changes(): ReadonlyMap<string, NameChange> | undefined {
    return this.inode.volume.changes?.names.get(this.inode.ino);
  }
  get isInline(): boolean {
    return this.inode.has('inlineData');
  }
  get blockCount(): number {
    return Math.floor(this.contents.size / this.inode.volume.blockSize);
  }

  *blocks(): Generator<Uint8Array> {
    const { volume, ino } = this.inode;
    if (this.isInline) {
      yield* this.#inlineBlocks();
      return;
    }
    if (volume.changes?.madeDirectories.has(ino)) return;
    let bad = 0;
    const complain = (problem: string) => {
      volume.report(problem);
      if (++bad > BAD_BLOCKS_MAX) throw corrupt(`ext: directory inode ${ino} has more than ${BAD_BLOCKS_MAX} unreadable blocks`);
    };
    const end = this.blockCount;
    if (end > volume.sb.blocks)
      throw corrupt(`ext: directory inode ${ino} has ${end} blocks, the filesystem has ${volume.sb.blocks}`);
    const seen = new Set<number>();
    for (let i = 0; i < end; ) {
      const piece = this.contents.map.find(i);
      const stop = Math.min(end, piece.logical + piece.count);
      if (piece.physical === 0) {
        complain(`directory inode ${ino} has a hole of ${stop - i} blocks at block ${i}`);
        i = stop;
        continue;
      }
      for (; i < stop; i++) {
        const n = piece.physical + i - piece.logical;
        if (seen.has(n)) throw corrupt(`ext: directory inode ${ino} uses block ${n} twice`, { offset: n * volume.blockSize });
        seen.add(n);
        const block = volume.block(n);
        const why = this.checksumFault(block);
        if (why !== undefined) complain(`directory inode ${ino}, block at ${hex(n * volume.blockSize)}: ${why}`);
        yield block;
      }
    }
  }

  /** One block by its number in the directory, for lookups through the index. */
  block(i: number): Uint8Array | undefined {
    if (i >= this.blockCount) return undefined;
    const piece = this.contents.map.find(i);
    if (piece.physical === 0) return undefined;
    const block = this.inode.volume.block(piece.physical + i - piece.logical);
    return this.checksumFault(block) === undefined ? block : undefined;
  }

  *#inlineBlocks(): Generator<Uint8Array> {
    const bytes = this.contents.inlineBytes!.subarray(0, this.contents.size);
    // The first four bytes are the parent's number, in place of "." and "..".
    yield bytes.subarray(4, 60);
    if (bytes.length > 60) yield bytes.subarray(60);
  }

  /** What is wrong with a block's checksum, if anything. */
  checksumFault(block: Uint8Array): string | undefined {
    if (!this.inode.volume.sb.metaCsum) return undefined;
    this.#seed ??= this.inode.csumSeed;
    const n = block.length;
    const d = new DataView(block.buffer, block.byteOffset, n);
    // An index block is looked for first: the end of one may still hold the tail of the leaf that it was.
    const counts = indexCountOffset(block);
    if (counts === undefined) {
      if (d.getUint32(n - 12, true) !== 0 || d.getUint32(n - 8, true) !== TAIL_HEADER) return 'no checksum';
      const expected = crc32cRaw(block.subarray(0, n - 12), this.#seed);
      const stored = d.getUint32(n - 4, true);
      return stored === expected ? undefined : `checksum is ${hex(stored)}, expected ${hex(expected)}`;
    }
    const limit = d.getUint16(counts, true);
    const count = d.getUint16(counts + 2, true);
    const tail = counts + limit * 8;
    if (tail + 8 > n || count > limit) return `index of ${count} entries, room for ${limit}`;
    const end = new Uint8Array(8);
    end.set(block.subarray(tail, tail + 4));
    const expected = crc32cRaw(end, crc32cRaw(block.subarray(0, counts + count * 8), this.#seed));
    const stored = d.getUint32(tail + 4, true);
    return stored === expected ? undefined : `index checksum is ${hex(stored)}, expected ${hex(expected)}`;
  }

  /** Calls `visit` for each name in a block until it returns true; true then.  A damaged rest of a block is reported. */
  scan(block: Uint8Array, visit: Visit): boolean {
    const { volume, ino } = this.inode;
    const end = block.length;
    const d = new DataView(block.buffer, block.byteOffset, end);
    const large = volume.blockSize >= 65536;
    for (let o = 0; o < end; ) {
      if (o + 8 > end) {
        // Inline areas may end in a few bytes that are too short for an entry.
        if (!this.isInline) volume.report(`directory inode ${ino}: an entry at ${hex(o)} of a block is cut off`);
        return false;
      }
      let length = d.getUint16(o + Dirent.offset.recLen, true);
      if (large) length = length === 65535 || length === 0 ? 65536 : (length & 65532) | ((length & 3) << 16);
      const nameLength = this.hasFileType ? block[o + 6]! : d.getUint16(o + 6, true);
      const number = d.getUint32(o, true);
      if (length < 8 || length % 4 !== 0 || o + length > end || 8 + nameLength > length || number > volume.sb.inodes) {
        if (this.isInline && number === 0 && length === 0) return false;
        volume.report(
          `directory inode ${ino}: entry at ${hex(o)} of a block is damaged (inode ${number}, length ${length}, name ${nameLength} bytes), the rest of the block is skipped`,
        );
        return false;
      }
      if (
        number !== 0 &&
        nameLength > 0 &&
        visit(block, o + 8, nameLength, number, this.hasFileType ? block[o + 7]! & 15 : 0) === true
      )
        return true;
      o += length;
    }
    return false;
  }
}

/** Where the limit and count of an index block are, or undefined for other blocks. */
export function indexCountOffset(block: Uint8Array): number | undefined {
  const d = new DataView(block.buffer, block.byteOffset, block.length);
  const whole = (length: number, size: number) => length === size || (size >= 65536 && (length === 65535 || length === 0));
  const first = d.getUint16(4, true);
  if (whole(first, block.length) && d.getUint32(0, true) === 0) return 8;
  // The root: ".", then ".." that spans the rest, then reserved zero and the length of the info (8).
  if (first === 12 && whole(d.getUint16(16, true) + 12, block.length) && block[0x1d] === 8) return 0x20;
  return undefined;
}
