import { allocAligned, isZeroFast, preadFull, type TransferOp, transfer } from '../../addon/sysio.js';
import type { BlockSource } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';

/** Guest bytes that one step copies: what is read is still in the processor's cache when it is written. */
export const COPY_WINDOW = 4 << 20;
/** Guest bytes that one step compresses: work for many cores. */
export const COMPRESS_WINDOW = 8 << 20;
/** One native read or write: small enough that all cores get some. */
const PIECE = 1 << 20;

/**
 * A part of a source in memory, read natively where host files have it, with what is zero in it.  Two of them alternate,
 * so that the one before is written while the next is read.
 */
export class Windows {
  readonly #buffer: Uint8Array;
  readonly #zero: Uint8Array;
  #half = 0;
  /** Guest offset of the window's first byte, and its bytes. */
  start = 0;
  length = 0;

  constructor(
    private readonly source: BlockSource,
    /** Bytes that are looked at as one: zero or not. */
    readonly granule: number,
    readonly window: number,
    private readonly options: { readonly salvage?: ((offset: number, length: number) => void) | undefined } = {},
  ) {
    this.#buffer = allocAligned(2 * window);
    this.#zero = new Uint8Array((2 * window) / granule);
  }

  get buffer(): Uint8Array {
    return this.#buffer.subarray(this.base, this.base + this.length);
  }
  /** The whole buffer: where `write` operations find the window's bytes, from `base` on. */
  get base(): number {
    return this.#half * this.window;
  }
  /** Room behind the window's bytes, up to a multiple of `unit`, as zeroes: the end of a disk. */
  padded(unit: number): Uint8Array {
    const end = Math.ceil(this.length / unit) * unit;
    const b = this.#buffer.subarray(this.base, this.base + end);
    b.fill(0, this.length);
    return b;
  }

  /** One entry a granule: 1 where all its bytes are zero. */
  get zeroMap(): Uint8Array {
    const first = this.base / this.granule;
    return this.#zero.subarray(first, first + Math.ceil(this.length / this.granule));
  }

  /** Moves on to `[start, start+length)`, writing `before` (of the window that was) in the same native call. */
  read(start: number, length: number, before: readonly TransferOp[]): void {
    this.#half = 1 - this.#half;
    this.start = start;
    this.length = length;
    const { granule: g, base } = this;
    const map = this.zeroMap;
    const buffer = this.buffer;
    const ops: TransferOp[] = [];
    const computed: { at: number; length: number }[] = [];
    /** Granules of several pieces: their state is looked up when all is there. */
    const doubtful: number[] = [];
    map.fill(1);
    for (let at = 0; at < length; ) {
      const run = this.source.map(start + at, length - at);
      const n = Math.min(run.length, length - at);
      if (run.kind === 'host') hostOps(ops, run.fd, run.offset, at, n, base, g, doubtful);
      else if (run.kind === 'computed') {
        const last = computed[computed.length - 1];
        if (last !== undefined && last.at + last.length === at) last.length += n;
        else computed.push({ at, length: n });
      } else {
        buffer.fill(0, at, at + n);
        if (at % g !== 0) doubtful.push(Math.floor(at / g));
        if ((at + n) % g !== 0) doubtful.push(Math.floor((at + n) / g));
      }
      at += n;
    }
    this.#move(interleave(before, ops));
    for (const c of computed) {
      this.#compute(buffer.subarray(c.at, c.at + c.length), start + c.at);
      for (let k = Math.floor(c.at / g); k * g < c.at + c.length; k++) doubtful.push(k);
    }
    for (const k of doubtful)
      if (k * g < length) map[k] = isZeroFast(buffer.subarray(k * g, Math.min(length, (k + 1) * g))) ? 1 : 0;
  }

  /** Writes without reading on. */
  write(ops: readonly TransferOp[]): void {
    if (ops.length > 0) transfer(ops, this.#buffer, this.#zero, this.granule);
  }

  #move(ops: readonly TransferOp[]): void {
    try {
      transfer(ops, this.#buffer, this.#zero, this.granule);
    } catch (e) {
      if (this.options.salvage === undefined || !(e instanceof GuestError) || e.where.op !== 'read') throw e;
      this.#salvage(ops);
    }
  }

  /** What cannot be read becomes zeroes, sector by sector. */
  #salvage(ops: readonly TransferOp[]): void {
    this.write(ops.filter((o) => o.kind === 'write'));
    const g = this.granule;
    for (const o of ops) {
      if (o.kind !== 'read') continue;
      for (let k = 0; k < o.length; k += 512) {
        const part = this.#buffer.subarray(o.at + k, o.at + Math.min(o.length, k + 512));
        try {
          part.fill(0, preadFull(o.fd, part, o.offset + k));
        } catch {
          part.fill(0);
          this.options.salvage!(this.start + o.at - this.base + k, part.length);
        }
      }
      for (let k = Math.floor(o.at / g); k * g < o.at + o.length; k++)
        this.#zero[k] = isZeroFast(this.#buffer.subarray(k * g, Math.min(o.at + o.length, (k + 1) * g))) ? 1 : 0;
    }
  }

  #compute(into: Uint8Array, offset: number): void {
    const { salvage } = this.options;
    if (salvage === undefined) return this.source.read(into, offset);
    try {
      this.source.read(into, offset);
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
      for (let k = 0; k < into.length; k += 512) {
        const part = into.subarray(k, k + 512);
        try {
          this.source.read(part, offset + k);
        } catch (inner) {
          if (!(inner instanceof GuestError)) throw inner;
          part.fill(0);
          salvage(offset + k, part.length);
        }
      }
    }
  }
}

/** Reads of `n` bytes to `at` of the window; granules they share with others are theirs to look at later. */
function hostOps(
  ops: TransferOp[],
  fd: number,
  offset: number,
  at: number,
  n: number,
  base: number,
  g: number,
  doubtful: number[],
): void {
  const end = at + n;
  let pos = at;
  if (pos % g !== 0) {
    const stop = Math.min(end, Math.ceil(pos / g) * g);
    doubtful.push(Math.floor(pos / g));
    ops.push({ kind: 'read', fd, offset, length: stop - pos, at: base + pos });
    pos = stop;
  }
  const whole = Math.floor(end / g) * g;
  while (pos < whole) {
    const stop = Math.min(whole, pos + PIECE);
    ops.push({ kind: 'read', fd, offset: offset + pos - at, length: stop - pos, at: base + pos });
    pos = stop;
  }
  if (pos < end) {
    doubtful.push(Math.floor(pos / g));
    ops.push({ kind: 'read', fd, offset: offset + pos - at, length: end - pos, at: base + pos });
  }
}

/**
 * Writes and reads in turn: Linux lets one writer at a time into a file, so that a second thread had better read than wait.
 */
function interleave(writes: readonly TransferOp[], reads: readonly TransferOp[]): TransferOp[] {
  const all: TransferOp[] = [];
  for (let i = 0; i < Math.max(writes.length, reads.length); i++) {
    if (i < writes.length) all.push(writes[i]!);
    if (i < reads.length) all.push(reads[i]!);
  }
  return all;
}

/** The write of a range of the window to a host file, in one piece: see `interleave`. */
export function writeOps(ops: TransferOp[], fd: number, offset: number, length: number, at: number): void {
  const last = ops[ops.length - 1];
  if (last !== undefined && last.fd === fd && last.offset + last.length === offset && last.at + last.length === at)
    ops[ops.length - 1] = { ...last, length: last.length + length };
  else ops.push({ kind: 'write', fd, offset, length, at });
}
