import type { Run } from '../../block/source.js';
import { corrupt, GuestError } from '../../core/errors.js';
import { pieceRuns, readPieces, type Stretch } from '../pieces.js';
import { type BlockMap, blockMap, type Piece } from './blockmap.js';
import type { Inode } from './inode.js';
import { inlineTail } from './xattr.js';

/** Bytes of i_block that inline data starts in. */
const INLINE_HEAD = 60;

/** The bytes of a file, directory or long link, wherever they are kept. */
export class Contents {
  readonly size: number;
  /** The bytes themselves when the inode holds them (as they are stored: ciphertext if encrypted). */
  readonly inlineBytes: Uint8Array | undefined;
  #map: BlockMap | undefined;

  constructor(readonly inode: Inode) {
    this.size = inode.size;
    if (inode.has('inlineData')) this.inlineBytes = inlineBytes(inode);
  }

  get map(): BlockMap {
    return (this.#map ??= blockMap(this.inode));
  }

  read(into: Uint8Array, offset: number): number {
    this.#requireReadable();
    const n = Math.max(0, Math.min(into.length, this.size - offset));
    if (this.inlineBytes !== undefined) {
      const part = this.inlineBytes.subarray(offset, offset + n);
      into.set(part);
      into.fill(0, part.length, n);
      return n;
    }
    readPieces(this.inode.volume.source, (at, length) => this.#pieceAt(at, length), into, offset, n);
    return n;
  }

  *runs(offset: number, length: number): Generator<Run> {
    this.#requireReadable();
    const end = Math.min(this.size, offset + length);
    if (this.inlineBytes !== undefined) {
      if (end > offset) yield { kind: 'computed', length: end - offset };
      return;
    }
    yield* pieceRuns(this.inode.volume.source, (at, length) => this.#pieceAt(at, length), offset, end);
  }

  #requireReadable(): void {
    if (this.inode.has('encrypt'))
      throw new GuestError('needs-key', `inode ${this.inode.ino} is encrypted (fscrypt), its key is needed`);
  }

  /** The longest stretch from `offset` that is all hole (`at` is -1) or lies together in the source. */
  #pieceAt(offset: number, length: number): Stretch {
    const { blockSize } = this.inode.volume;
    let logical = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    if (last >= 2 ** 32) throw corrupt(`ext: inode ${this.inode.ino} has ${this.size} bytes, more than 2^32 blocks`);
    const first = this.map.find(logical);
    const start = startOf(first);
    const at = start === 0 ? -1 : (start + logical - first.logical) * blockSize + (offset % blockSize);
    let next = start === 0 ? 0 : start + first.count;
    logical = first.logical + first.count;
    while (logical <= last) {
      const p = this.map.find(logical);
      if (startOf(p) !== next) break;
      logical += p.count;
      if (next !== 0) next += p.count;
    }
    return { at, length: Math.min(length, logical * blockSize - offset) };
  }
}

/** What is not written reads as a hole does. */
const startOf = (p: Piece): number => (p.unwritten ? 0 : p.physical);

function inlineBytes(inode: Inode): Uint8Array {
  const tail = inlineTail(inode);
  const tailLength = tail?.length ?? 0;
  const out = new Uint8Array(INLINE_HEAD + tailLength);
  out.set(inode.fields.block);
  if (tail !== undefined) out.set(inode.raw.subarray(tail.at, tail.at + tail.length), INLINE_HEAD);
  return out;
}
