import { allocAligned, isZeroFast, type TransferOp, transfer } from '../../addon/sysio.js';
import type { BlockSource } from '../../block/source.js';
import { explain, GuestError } from '../../core/errors.js';
import type { Extent, Image } from '../../image/format.js';
import { extentOf } from './map.js';
import { forgetFiles, runAt, sameRun } from './same.js';

/** Both halves stay in the processor's cache between reading and comparing. */
const WINDOW = 2 << 20;
const PIECE = 512 << 10;
/** What is zero is of no interest here: one look for all, which ends at the first byte that is not. */
const GRANULE = 2 * WINDOW;

export type Comparison =
  | { readonly kind: 'identical'; readonly sizesDiffer: boolean }
  | { readonly kind: 'size' }
  | { readonly kind: 'status'; readonly offset: number }
  | { readonly kind: 'content'; readonly offset: number; readonly sizesDiffer: boolean }
  | { readonly kind: 'unreadable'; readonly offset: number; readonly message: string };

/** Do both disks have the same contents?  Yields the bytes done; ends with the result. */
export function* compareImages(a: Image, b: Image, strict: boolean): Generator<{ done: number; total: number }, Comparison> {
  forgetFiles();
  const total = Math.max(a.size, b.size);
  const common = Math.min(a.size, b.size);
  if (strict && a.size !== b.size) return { kind: 'size' };
  const pair = new Pair(a, b);
  for (let pos = 0; pos < total; ) {
    const limit = pos < common ? common : total;
    if (strict) {
      const status = sameStatus(a, b, pos, limit);
      if (!status) return { kind: 'status', offset: pos };
    }
    const same = sameRun(a, b, pos, limit - pos);
    if (same > 0 && !strict) {
      pos += same;
      yield { done: pos, total };
      continue;
    }
    let n = Math.min(WINDOW, limit - pos);
    if (strict) n = Math.min(n, statusLength(a, b, pos, n));
    const different = same >= n ? undefined : pair.firstDifference(pos, n);
    if (different !== undefined) {
      if (typeof different !== 'number') return { kind: 'unreadable', ...different };
      return { kind: 'content', offset: different, sizesDiffer: different >= common };
    }
    pos += n;
    yield { done: pos, total };
  }
  return { kind: 'identical', sizesDiffer: a.size !== b.size };
}

const statusOf = (e: Extent): string => `${e.present}${e.zero}${e.data}`;
const sameStatus = (a: Image, b: Image, pos: number, end: number): boolean =>
  statusOf(extentOf(a, pos, end - pos)) === statusOf(extentOf(b, pos, end - pos));
const statusLength = (a: Image, b: Image, pos: number, n: number): number =>
  Math.min(extentOf(a, pos, n).length, extentOf(b, pos, n).length);

/** Parts of two disks in memory, side by side. */
class Pair {
  readonly #buffer = allocAligned(2 * WINDOW);
  readonly #zero = new Uint8Array((2 * WINDOW) / GRANULE);
  constructor(
    private readonly a: BlockSource,
    private readonly b: BlockSource,
  ) {}

  firstDifference(pos: number, n: number): number | { readonly offset: number; readonly message: string } | undefined {
    const ops: TransferOp[] = [];
    const zeroA = plan(this.a, pos, n, this.#buffer, 0, ops);
    const zeroB = plan(this.b, pos, n, this.#buffer, WINDOW, ops);
    try {
      transfer(ops, this.#buffer, this.#zero, GRANULE);
    } catch (e) {
      if (e instanceof GuestError) return { offset: pos, message: explain(e) };
      throw e;
    }
    for (const s of [zeroA, zeroB]) if (typeof s === 'object') return s;
    const x = this.#buffer.subarray(0, n);
    const y = this.#buffer.subarray(WINDOW, WINDOW + n);
    if (zeroA === true) return isZeroFast(y) ? undefined : pos + firstDifferent(x, y);
    if (zeroB === true) return isZeroFast(x) ? undefined : pos + firstDifferent(x, y);
    return Buffer.compare(x, y) === 0 ? undefined : pos + firstDifferent(x, y);
  }
}

/** Native reads of what host files have; the rest is read here.  True when all of it is known to be zero. */
function plan(
  source: BlockSource,
  pos: number,
  n: number,
  buffer: Uint8Array,
  base: number,
  ops: TransferOp[],
): boolean | { readonly offset: number; readonly message: string } {
  let zero = true;
  for (let at = 0; at < n; ) {
    const run = runAt(source, pos + at, n - at);
    const part = buffer.subarray(base + at, base + at + run.length);
    if (run.kind === 'zero') part.fill(0);
    else {
      zero = false;
      if (run.kind === 'host')
        for (let k = 0; k < run.length; k += PIECE)
          ops.push({
            kind: 'read',
            fd: run.fd,
            offset: run.offset + k,
            length: Math.min(PIECE, run.length - k),
            at: base + at + k,
          });
      else
        try {
          let m = run.length;
          // Compressed clusters side by side are decompressed together.
          while (at + m < n) {
            const next = runAt(source, pos + at + m, n - at - m);
            if (next.kind !== 'computed') break;
            m += next.length;
          }
          source.read(buffer.subarray(base + at, base + at + m), pos + at);
          at += m;
          continue;
        } catch (e) {
          if (!(e instanceof GuestError)) throw e;
          return { offset: pos + at, message: explain(e) };
        }
    }
    at += run.length;
  }
  return zero;
}

/** In sectors, as qemu-img tells it. */
function firstDifferent(x: Uint8Array, y: Uint8Array): number {
  for (let step = 65536, at = 0; ; ) {
    const end = Math.min(x.length, at + step);
    if (at >= x.length) return 0;
    if (Buffer.compare(x.subarray(at, end), y.subarray(at, end)) === 0) {
      at = end;
      continue;
    }
    if (step === 512) return at;
    step = 512;
  }
}
