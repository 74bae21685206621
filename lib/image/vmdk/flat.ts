import { type BlockSource, checkRange } from '../../block/source.js';
import { ZeroSource } from '../../block/window.js';
import { corrupt, hex } from '../../core/errors.js';
import type { Piece } from '../mapped.js';
import type { DiskExtent } from './extent.js';

/** FLAT and VMFS: the guest's bytes as they are, from `start` of a file. */
export class FlatExtent implements DiskExtent {
  constructor(
    readonly format: string,
    readonly file: BlockSource,
    readonly start: number,
    readonly size: number,
  ) {
    if (!Number.isSafeInteger(start + size) || start + size > file.size)
      throw corrupt(
        `${file.label}: ${format} extent of ${hex(size)} bytes at ${hex(start)} is longer than the file (size ${hex(file.size)})`,
      );
  }
  locate(offset: number, length: number): Piece {
    return { kind: 'data', length, offset: this.start + offset, source: this.file, flat: true };
  }
}

/** ZERO: reads as zeroes, stores nothing. */
export class ZeroExtent implements DiskExtent {
  readonly format = 'ZERO';
  readonly file = undefined;
  readonly #source: ZeroSource;
  constructor(readonly size: number) {
    this.#source = new ZeroSource(size);
  }
  locate(offset: number, length: number): Piece {
    checkRange(this.#source, offset, length);
    return { kind: 'zero', length, offset: 0, source: this.#source };
  }
}
