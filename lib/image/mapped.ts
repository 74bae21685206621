import { WritableFileSource } from '../block/file.js';
import {
  type BlockSource,
  checkRange,
  isWritable,
  type ResizableSource,
  type Run,
  type WritableSource,
} from '../block/source.js';
import { corrupt, GuestError, hex, unsupported } from '../core/errors.js';
import type { CheckResult, Extent, Image, ImageInfo, Place, Problem, WritableImage } from './format.js';

/**
 * The first run at a guest offset, all of one kind.
 *   data      bytes lie in `source` at `offset`
 *   zero      the table says: reads as zeroes
 *   absent    not in this layer: the backing file's, or zeroes
 *   computed  compressed: only `Mapping.readComputed` knows; `offset` is the table's
 */
export interface Piece {
  readonly kind: 'data' | 'zero' | 'absent' | 'computed';
  readonly length: number;
  readonly offset: number;
  readonly source: BlockSource;
  /** Data whose host file may have holes that mean something (flat and fixed images). */
  readonly flat?: boolean;
}

/** New blocks for guest bytes `[start, start+length)`, contiguous at `offset` of `source`, reading as zeroes, not yet in the table. */
export interface Allocation {
  readonly start: number;
  readonly length: number;
  readonly source: WritableSource;
  readonly offset: number;
  /** For the driver: what `commit` will enter. */
  readonly ticket?: unknown;
}

/** A block that the caller has compressed. */
export interface PackedBlock {
  readonly offset: number;
  readonly data: Uint8Array;
}

/** What a format of "a table that says where each block is" must know.  MappedImage makes an image of it. */
export interface Mapping {
  readonly format: string;
  readonly file: BlockSource;
  /** Bytes the guest sees. */
  size: number;
  readonly sectorSize: number;
  readonly backing?: BlockSource | undefined;
  /** The first run, as long as is cheap to know (contiguous blocks joined), at most `length`. */
  locate(offset: number, length: number): Piece;
  readComputed?(into: Uint8Array, offset: number, piece: Piece): void;
  /** Compressed images: puts guest bytes into new blocks, returns how many were taken (0: not a compressed block). */
  writeComputed?(from: Uint8Array, offset: number, below: (into: Uint8Array, offset: number) => void): number;
  /** New blocks are stored compressed. */
  readonly packed?: boolean;
  /** Enters blocks that the caller compressed (a zlib stream each): pairs of guest offset and bytes, in order. */
  writePacked?(blocks: readonly PackedBlock[]): void;
  /** Space for the blocks at `offset`, at least the one there, at most those up to `offset + length`. */
  allocate?(offset: number, length: number): Allocation;
  /** Enters an allocation whose bytes are written. */
  commit?(allocation: Allocation): void;
  /** Marks whole blocks inside the range as zero in the table; returns how many bytes from `offset` are done (0: none). */
  markZero?(offset: number, length: number, piece: Piece): number;
  /** True when the range of `file` holds headers or tables: a damaged table must not send the guest's bytes there. */
  protects?(offset: number, length: number): boolean;
  /** Before bytes of a block that is there are written. */
  touch?(offset: number): void;
  /** Before the first change of the guest's bytes since opening. */
  firstWrite?(): void;
  /** Tables to the file, in a safe order. */
  sync?(): void;
  describe(): ImageInfo;
  check?(): CheckResult;
  repair?(what: 'leaks' | 'all'): CheckResult;
  resize?(size: number): void;
  /** Closes what the driver opened. */
  close(): void;
}

/** An image over a Mapping, for reading. */
export class MappedImage implements Image {
  readonly label: string;
  constructor(readonly mapping: Mapping) {
    this.label = mapping.file.label;
    // Offered only where the format has them, so that a caller can ask by presence.
    if (mapping.check !== undefined) this.check = () => mapping.check!();
  }
  check?(): CheckResult;
  get format(): string {
    return this.mapping.format;
  }
  get file(): BlockSource {
    return this.mapping.file;
  }
  get backing(): BlockSource | undefined {
    return this.mapping.backing;
  }
  get size(): number {
    return this.mapping.size;
  }
  get sectorSize(): number {
    return this.mapping.sectorSize;
  }
  describe(): ImageInfo {
    return this.mapping.describe();
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    const m = this.mapping;
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const piece = m.locate(at, into.length - done);
      const part = piece.length === into.length ? into : into.subarray(done, done + piece.length);
      switch (piece.kind) {
        case 'data':
          this.#readData(part, piece, at);
          break;
        case 'zero':
          part.fill(0);
          break;
        case 'absent':
          this.readAbsent(part, at);
          break;
        case 'computed':
          m.readComputed!(part, at, piece);
      }
      done += piece.length;
    }
  }

  #readData(part: Uint8Array, piece: Piece, at: number): void {
    const { source, offset } = piece;
    if (offset + part.length > source.size)
      throw corrupt(
        `${this.label}: the block of guest offset ${hex(at)} is at ${hex(offset)}, past the end of ${source === this.file ? 'the file' : source.label} (size ${hex(source.size)})`,
        { offset },
      );
    source.read(part, offset);
  }

  /** Bytes not in this layer: the backing file's, zeroes past its end. */
  protected readAbsent(part: Uint8Array, at: number): void {
    const backing = this.mapping.backing;
    const inside = backing === undefined ? 0 : Math.max(0, Math.min(part.length, backing.size - at));
    if (inside > 0) backing!.read(inside === part.length ? part : part.subarray(0, inside), at);
    if (inside < part.length) part.fill(0, inside);
  }

  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    if (length === 0) return { kind: 'zero', length };
    const piece = this.mapping.locate(offset, length);
    if (piece.kind === 'data') {
      const n = Math.min(piece.length, piece.source.size - piece.offset);
      if (n <= 0) return { kind: 'computed', length: piece.length };
      return piece.source.map(piece.offset, n);
    }
    if (piece.kind === 'computed') return { kind: 'computed', length: piece.length };
    const backing = this.mapping.backing;
    if (piece.kind === 'absent' && backing !== undefined && offset < backing.size)
      return backing.map(offset, Math.min(piece.length, backing.size - offset));
    return { kind: 'zero', length: piece.length };
  }

  extent(offset: number, length: number): Extent {
    checkRange(this, offset, length);
    if (length === 0) return { length, depth: 0, present: false, zero: true, data: false, compressed: false };
    const piece = this.mapping.locate(offset, length);
    const n = piece.length;
    switch (piece.kind) {
      case 'zero':
        return { length: n, depth: 0, present: true, zero: true, data: false, compressed: false };
      case 'computed':
        return { length: n, depth: 0, present: true, zero: false, data: true, compressed: true };
      case 'absent':
        return this.#absentExtent(offset, n);
      case 'data': {
        const { source } = piece;
        let zero = false;
        let known = n;
        if (piece.flat && piece.offset < source.size) {
          const run = source.map(piece.offset, Math.min(n, source.size - piece.offset));
          zero = run.kind === 'zero';
          known = run.length;
        }
        return {
          length: known,
          depth: 0,
          present: true,
          zero,
          data: true,
          compressed: false,
          offset: piece.offset,
          ...(source === this.file ? {} : { filename: source.label }),
        };
      }
    }
  }

  #absentExtent(offset: number, n: number): Extent {
    const backing = this.mapping.backing;
    if (backing === undefined || offset >= backing.size)
      return { length: n, depth: 0, present: false, zero: true, data: false, compressed: false };
    const max = Math.min(n, backing.size - offset);
    if (isImage(backing)) {
      const e = backing.extent(offset, max);
      return {
        ...e,
        depth: e.depth + 1,
        ...(e.offset !== undefined && e.filename === undefined ? { filename: backing.file.label } : {}),
      };
    }
    const run = backing.map(offset, max);
    return {
      length: run.length,
      depth: 1,
      present: true,
      zero: run.kind === 'zero',
      data: run.kind !== 'zero',
      compressed: false,
      ...(run.kind === 'host' ? { offset: run.offset, filename: backing.label } : {}),
    };
  }

  close(): void {
    this.mapping.close();
  }
}

export const isImage = (s: BlockSource): s is Image => typeof (s as Partial<Image>).extent === 'function';

/** As MappedImage, with writing: new blocks get their bytes first and their table entry at `flush` or `close`. */
export class WritableMappedImage extends MappedImage implements WritableImage {
  #changed = false;
  #closed = false;
  constructor(mapping: Mapping) {
    super(mapping);
    if (mapping.repair !== undefined) this.repair = (what) => mapping.repair!(what);
    if (mapping.resize !== undefined)
      this.resize = (size) => {
        this.#change();
        mapping.resize!(size);
      };
  }
  repair?(what: 'leaks' | 'all'): CheckResult;
  /** Grows the disk. */
  resize?(size: number): void;

  #change(): void {
    if (this.#changed) return;
    this.#changed = true;
    this.mapping.firstWrite?.();
  }

  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    if (from.length === 0) return;
    this.#change();
    const m = this.mapping;
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const piece = m.locate(at, from.length - done);
      if (piece.kind !== 'data' && m.writeComputed !== undefined) {
        const n = m.writeComputed(from.subarray(done), at, (into, o) => this.read(into, o));
        done += n;
        if (n > 0) continue;
      }
      if (piece.kind === 'computed') throw unsupported(`${this.label}: compressed blocks cannot be written`);
      if (piece.kind === 'data') {
        this.#refuseOutside(piece, at);
        m.touch?.(at);
        writable(piece.source).write(from.subarray(done, done + piece.length), piece.offset);
        done += piece.length;
        continue;
      }
      const a = m.allocate!(at, piece.length);
      const end = Math.min(at + piece.length, a.start + a.length);
      if (piece.kind === 'absent' && m.backing !== undefined) {
        this.#copyUp(a, a.start, at);
        this.#copyUp(a, end, Math.min(a.start + a.length, this.size));
      }
      a.source.write(from.subarray(done, done + end - at), a.offset + at - a.start);
      m.commit!(a);
      done += end - at;
    }
  }

  /** New blocks read as zeroes, so that any part of one may be written natively, unless a backing file shows through. */
  placeForWrite(offset: number, length: number): readonly Place[] {
    checkRange(this, offset, length);
    const m = this.mapping;
    const places: Place[] = [];
    if (length > 0) this.#change();
    for (let at = offset; at < offset + length; ) {
      const left = offset + length - at;
      const piece = m.locate(at, left);
      let n = piece.length;
      if (piece.kind === 'data' && piece.source instanceof WritableFileSource) {
        this.#refuseOutside(piece, at);
        m.touch?.(at);
        places.push({ length: n, fd: piece.source.reserve(piece.offset, n), offset: piece.offset });
      } else if (piece.kind !== 'data' && piece.kind !== 'computed' && m.packed !== true && m.backing === undefined) {
        const a = m.allocate!(at, n);
        n = Math.min(n, a.start + a.length - at);
        m.commit!(a);
        const to = a.offset + at - a.start;
        places.push({ length: n, fd: a.source instanceof WritableFileSource ? a.source.reserve(to, n) : -1, offset: to });
      } else places.push({ length: n, fd: -1, offset: 0 });
      at += n;
    }
    return places;
  }

  /** Bytes of the blocks that `writePacked` takes; undefined where blocks are stored as they are. */
  get packedBlockSize(): number | undefined {
    return this.mapping.packed === true ? this.describe().clusterSize : undefined;
  }
  writePacked(blocks: readonly PackedBlock[]): void {
    this.#change();
    this.mapping.writePacked!(blocks);
  }

  #refuseOutside(piece: Piece, at: number): void {
    const { source, offset, length } = piece;
    if (offset + length > source.size)
      throw corrupt(
        `${this.label}: the block of guest offset ${hex(at)} is at ${hex(offset)}, past the end of ${source === this.file ? 'the file' : source.label} (size ${hex(source.size)})`,
        { offset },
      );
    if (piece.flat !== true && this.mapping.protects?.(offset, length))
      throw corrupt(
        `${this.label}: the block of guest offset ${hex(at)} is at ${hex(offset)}, where the image's own tables are`,
        {
          offset,
        },
      );
  }

  /** Guest bytes `[from, to)` from the backing file into new space. */
  #copyUp(a: Allocation, from: number, to: number): void {
    for (let at = from; at < to; ) {
      const b = new Uint8Array(Math.min(to - at, 1 << 20));
      this.readAbsent(b, at);
      a.source.write(b, a.offset + at - a.start);
      at += b.length;
    }
  }

  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    if (length === 0) return;
    this.#change();
    const m = this.mapping;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const piece = m.locate(at, end - at);
      const hidden = m.backing !== undefined && at < m.backing.size;
      let n = piece.length;
      if (piece.kind === 'data' || piece.kind === 'computed' || (piece.kind === 'absent' && hidden)) {
        const marked = m.markZero?.(at, n, piece) ?? 0;
        if (marked > 0) n = marked;
        else if (piece.kind === 'data') {
          this.#refuseOutside(piece, at);
          m.touch?.(at);
          writable(piece.source).zero(piece.offset, n);
        } else {
          n = Math.min(n, ZEROES.length);
          this.write(ZEROES.subarray(0, n), at);
        }
      }
      at += n;
    }
  }

  flush(): void {
    this.mapping.sync?.();
    writable(this.file).flush();
  }

  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.mapping.sync?.();
    } finally {
      super.close();
    }
  }
}

const ZEROES = new Uint8Array(1 << 20);

export function writable(s: BlockSource): WritableSource {
  if (!isWritable(s)) throw new GuestError('read-only', `${s.label} is open for reading only`);
  return s;
}

/** Makes `file` at least `size` bytes long; what is added reads as zeroes. */
export function grow(file: WritableSource, size: number): void {
  if (file.size >= size) return;
  if ('resize' in file) (file as ResizableSource).resize(size);
  else throw new GuestError('no-space', `${file.label}: the image needs ${hex(size)} bytes, ${hex(file.size)} are there`);
}

/** Which blocks of a file are in use, for `check`: finds blocks that two table entries share. */
export class BlockUse {
  readonly #bits: Uint8Array | undefined;
  constructor(blocks: number) {
    // A file too large for the bitmap is checked for everything but sharing.
    this.#bits = blocks <= 1 << 29 ? new Uint8Array(Math.ceil(blocks / 8)) : undefined;
  }
  /** Marks a block; false when it was marked before. */
  take(block: number): boolean {
    const bits = this.#bits;
    const byte = Math.floor(block / 8);
    if (bits === undefined || byte >= bits.length) return true;
    const bit = 1 << (block % 8);
    if ((bits[byte]! & bit) !== 0) return false;
    bits[byte]! |= bit;
    return true;
  }
}

/** A check's result while it is counted: all are counted, the first thousand are told. */
export class Findings {
  readonly problems: Problem[] = [];
  corruptions = 0;
  leaks = 0;
  add(kind: Problem['kind'], offset: number, length: number, message: string): void {
    if (kind === 'leak') this.leaks++;
    else this.corruptions++;
    if (this.problems.length < 1000) this.problems.push({ kind, at: { offset, length }, message });
  }
  result(more: Partial<CheckResult> = {}): CheckResult {
    return {
      problems: this.problems,
      corruptions: this.corruptions,
      leaks: this.leaks,
      corruptionsFixed: 0,
      leaksFixed: 0,
      checkErrors: 0,
      ...more,
    };
  }
}
