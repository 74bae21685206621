import { GuestError } from '../core/errors.js';
import { type BlockSource, checkRange, isWritable, type Range, type Run, type WritableSource } from './source.js';

/** A window on a source: a partition, a slice of a file.  Does not close the source below. */
export class Window implements BlockSource {
  readonly sectorSize: number;
  constructor(
    protected readonly below: BlockSource,
    readonly start: number,
    readonly size: number,
    readonly label = below.label,
    sectorSize?: number,
  ) {
    this.sectorSize = sectorSize ?? below.sectorSize;
    checkRange(below, start, size);
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    this.below.read(into, this.start + offset);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return this.below.map(this.start + offset, length);
  }
  prefetch(ranges: readonly Range[]): void {
    this.below.prefetch?.(ranges.map((r) => ({ offset: this.start + r.offset, length: r.length })));
  }
  close(): void {}
}

export class WritableWindow extends Window implements WritableSource {
  constructor(
    private readonly target: WritableSource,
    start: number,
    size: number,
    label?: string,
  ) {
    super(target, start, size, label);
  }
  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    this.target.write(from, this.start + offset);
  }
  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.target.zero(this.start + offset, length);
  }
  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.target.discard?.(this.start + offset, length);
  }
  flush(): void {
    this.target.flush();
  }
}

export const window = (source: BlockSource, start: number, size: number, label?: string): Window =>
  isWritable(source) ? new WritableWindow(source, start, size, label) : new Window(source, start, size, label);

/** Zeroes without end, of a given size. */
export class ZeroSource implements BlockSource {
  constructor(
    readonly size: number,
    readonly label = 'zeroes',
    readonly sectorSize = 512,
  ) {}
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    into.fill(0);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return { kind: 'zero', length };
  }
  close(): void {}
}

/** Reads must not go on past what is there: a source shorter than promised is padded with zeroes (backing files). */
export class Padded implements BlockSource {
  readonly label: string;
  readonly sectorSize: number;
  constructor(
    private readonly below: BlockSource,
    readonly size: number,
  ) {
    this.label = below.label;
    this.sectorSize = below.sectorSize;
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    const inside = Math.max(0, Math.min(into.length, this.below.size - offset));
    if (inside > 0) this.below.read(into.subarray(0, inside), offset);
    if (inside < into.length) into.fill(0, inside);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const inside = this.below.size - offset;
    return inside > 0 ? this.below.map(offset, Math.min(length, inside)) : { kind: 'zero', length };
  }
  close(): void {
    this.below.close();
  }
}

/** Several ranges of sources, one after another: a linear logical volume, a VMDK of several extents, a split file. */
export class Concat implements BlockSource {
  readonly size: number;
  readonly sectorSize: number;
  readonly #starts: number[];
  constructor(
    private readonly parts: readonly BlockSource[],
    readonly label: string,
  ) {
    this.#starts = [];
    let at = 0;
    for (const p of parts) {
      this.#starts.push(at);
      at += p.size;
    }
    this.size = at;
    this.sectorSize = parts[0]?.sectorSize ?? 512;
  }
  #find(offset: number): number {
    let lo = 0;
    let hi = this.#starts.length - 1;
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1;
      if (this.#starts[mid]! <= offset) lo = mid;
      else hi = mid - 1;
    }
    return lo;
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    let i = this.#find(offset);
    for (let done = 0; done < into.length; i++) {
      const part = this.parts[i]!;
      const at = offset + done - this.#starts[i]!;
      const n = Math.min(into.length - done, part.size - at);
      if (n > 0) part.read(into.subarray(done, done + n), at);
      done += Math.max(0, n);
    }
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const i = this.#find(offset);
    const part = this.parts[i];
    if (part === undefined) throw new GuestError('internal', `internal error: ${this.label} has no parts`);
    const at = offset - this.#starts[i]!;
    return part.map(at, Math.min(length, part.size - at));
  }
  close(): void {
    for (const p of this.parts) p.close();
  }
}

/** RAID-0: `stripeSize` bytes from each part in turn. */
export class Striped implements BlockSource {
  readonly size: number;
  readonly sectorSize: number;
  constructor(
    private readonly parts: readonly BlockSource[],
    readonly stripeSize: number,
    readonly label: string,
    size?: number,
  ) {
    this.size = size ?? parts.reduce((n, p) => n + p.size, 0);
    this.sectorSize = parts[0]?.sectorSize ?? 512;
    if (!(stripeSize > 0) || parts.length === 0)
      throw new GuestError('corrupt', `${label}: stripe of ${stripeSize} bytes over ${parts.length} devices`);
  }
  #locate(offset: number): { part: BlockSource; at: number; left: number } {
    const chunk = Math.floor(offset / this.stripeSize);
    const within = offset - chunk * this.stripeSize;
    const row = Math.floor(chunk / this.parts.length);
    return {
      part: this.parts[chunk - row * this.parts.length]!,
      at: row * this.stripeSize + within,
      left: this.stripeSize - within,
    };
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    for (let done = 0; done < into.length; ) {
      const { part, at, left } = this.#locate(offset + done);
      const n = Math.min(left, into.length - done);
      part.read(into.subarray(done, done + n), at);
      done += n;
    }
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const { part, at, left } = this.#locate(offset);
    return part.map(at, Math.min(length, left));
  }
  close(): void {
    for (const p of this.parts) p.close();
  }
}
