import { WritableFileSource } from '../../block/file.js';
import {
  type BlockSource,
  checkRange,
  isWritable,
  type ResizableSource,
  type Run,
  type WritableSource,
} from '../../block/source.js';
import { GuestError, usage } from '../../core/errors.js';
import type { Extent, Image, ImageInfo, Place } from '../format.js';

/** A raw image; a file's odd tail counts as a whole sector, zeroes behind it, as QEMU has it. */
export class RawImage implements Image {
  readonly format = 'raw';
  readonly label: string;
  readonly sectorSize: number;
  protected length: number;
  constructor(readonly file: BlockSource) {
    this.label = file.label;
    this.sectorSize = file.sectorSize;
    this.length = Math.ceil(file.size / 512) * 512;
  }
  get size(): number {
    return this.length;
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    const inside = Math.max(0, Math.min(into.length, this.file.size - offset));
    if (inside === into.length) return this.file.read(into, offset);
    if (inside > 0) this.file.read(into.subarray(0, inside), offset);
    into.fill(0, inside);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const inside = this.file.size - offset;
    return inside > 0 ? this.file.map(offset, Math.min(length, inside)) : { kind: 'zero', length };
  }
  extent(offset: number, length: number): Extent {
    const run = this.map(offset, length);
    const zero = run.kind === 'zero';
    return {
      length: run.length,
      depth: 0,
      present: true,
      zero,
      data: !zero,
      compressed: false,
      offset,
      filename: this.file.label,
    };
  }
  describe(): ImageInfo {
    return { format: 'raw', virtualSize: this.size, snapshots: [], features: [] };
  }
  close(): void {}
}

export class WritableRawImage extends RawImage implements WritableSource {
  readonly #target: WritableSource;
  constructor(file: BlockSource) {
    super(file);
    if (!isWritable(file)) throw new GuestError('read-only', `${file.label} is open for reading only`);
    this.#target = file;
  }
  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    this.#target.write(from, offset);
  }
  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.#target.zero(offset, length);
  }
  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.#target.discard?.(offset, length);
  }
  placeForWrite(offset: number, length: number): readonly Place[] {
    checkRange(this, offset, length);
    const t = this.#target;
    const fd = t instanceof WritableFileSource && offset + length <= t.size ? t.reserve(offset, length) : -1;
    return [{ length, fd, offset }];
  }
  flush(): void {
    this.#target.flush();
  }
  resize(size: number): void {
    const resize = (this.#target as Partial<ResizableSource>).resize;
    if (resize === undefined) throw usage(`${this.label} cannot be resized`);
    const whole = Math.ceil(size / 512) * 512;
    resize.call(this.#target, whole);
    this.length = whole;
  }
}
