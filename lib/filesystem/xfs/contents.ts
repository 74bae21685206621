import type { Run } from '../../block/source.js';
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
    const { source } = this.inode.volume;
    for (let done = 0; done < n; ) {
      const piece = this.#pieceAt(offset + done, n - done);
      const part = into.subarray(done, done + piece.length);
      if (piece.at < 0) part.fill(0);
      else source.read(part, piece.at);
      done += piece.length;
    }
    return n;
  }

  *runs(offset: number, length: number): Generator<Run> {
    const end = Math.min(this.size, offset + length);
    const { source } = this.inode.volume;
    for (let pos = offset; pos < end; ) {
      const piece = this.#pieceAt(pos, end - pos);
      if (piece.at < 0) yield { kind: 'zero', length: piece.length };
      else
        for (let done = 0; done < piece.length; ) {
          const run = source.map(piece.at + done, piece.length - done);
          yield run;
          done += run.length;
        }
      pos += piece.length;
    }
  }

  /** The longest stretch from `offset` that reads as zeroes (`at` is -1) or lies together in the source. */
  #pieceAt(offset: number, length: number): { at: number; length: number } {
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
