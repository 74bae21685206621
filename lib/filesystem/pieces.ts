import type { BlockSource, Run } from '../block/source.js';

/** Part of a file: together in the source at `at`, or all zeroes (a hole, unwritten blocks) where `at` is -1. */
export interface Stretch {
  readonly at: number;
  readonly length: number;
}
/** The longest stretch at an offset of a file, at most `length` bytes and at least one. */
export type PieceAt = (offset: number, length: number) => Stretch;

/** Fills the first `n` bytes of `into` from `offset` of the file: one read of the source a piece. */
export function readPieces(source: BlockSource, pieceAt: PieceAt, into: Uint8Array, offset: number, n: number): void {
  for (let done = 0; done < n; ) {
    const piece = pieceAt(offset + done, n - done);
    const part = into.subarray(done, done + piece.length);
    if (piece.at < 0) part.fill(0);
    else source.read(part, piece.at);
    done += piece.length;
  }
}

/** The same range as runs of the source's own map. */
export function* pieceRuns(source: BlockSource, pieceAt: PieceAt, offset: number, end: number): Generator<Run> {
  for (let pos = offset; pos < end; ) {
    const piece = pieceAt(pos, end - pos);
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
