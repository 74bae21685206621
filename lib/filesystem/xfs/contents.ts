import type { Run } from '../../block/source.js';
import { pieceRuns, readPieces, type Stretch } from '../pieces.js';
import { type ExtentMap, mapOf } from './extents.js';
import type { Inode } from './inode.js';

/** The bytes of a file. */
export class Contents {
  readonly size: number;
  readonly #map: ExtentMap;

  constructor(private readonly inode: Inode) {
    inode.requireDataDevice();
    this.size = inode.size;
    this.#map = mapOf(inode, inode.dataFork);
  }

  read(into: Uint8Array, offset: number): number {
    const n = Math.max(0, Math.min(into.length, this.size - offset));
    readPieces(this.inode.volume.source, (at, length) => this.#pieceAt(at, length), into, offset, n);
    return n;
  }

  *runs(offset: number, length: number): Generator<Run> {
    const end = Math.min(this.size, offset + length);
    yield* pieceRuns(this.inode.volume.source, (at, length) => this.#pieceAt(at, length), offset, end);
  }

  /** The longest stretch from `offset` that reads as zeroes (`at` is -1) or lies together in the source. */
  #pieceAt(offset: number, length: number): Stretch {
    const { blockSize } = this.inode.volume;
    let logical = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    const first = this.#map.find(logical);
    const start = first.unwritten ? -1 : first.at;
    const at = start < 0 ? -1 : start + (logical - first.logical) * blockSize + (offset % blockSize);
    let next = start < 0 ? -1 : start + first.count * blockSize;
    logical = first.logical + first.count;
    while (logical <= last) {
      const p = this.#map.find(logical);
      if ((p.unwritten ? -1 : p.at) !== next) break;
      logical += p.count;
      if (next >= 0) next += p.count * blockSize;
    }
    return { at, length: Math.min(length, logical * blockSize - offset) };
  }
}
