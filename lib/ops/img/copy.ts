import type { TransferOp } from '../../addon/sysio.js';
import type { BlockSource } from '../../block/source.js';
import type { WritableImage } from '../../image/format.js';
import { compressor } from './compress.js';
import { sameRun } from './same.js';
import { COMPRESS_WINDOW, COPY_WINDOW, Windows, writeOps } from './window.js';

export interface CopyOptions {
  /** What is not written reads as zeroes already. */
  readonly zeroed: boolean;
  /** Zeroes in a row that are left out; 0 writes everything. */
  readonly sparseSize?: number;
  readonly compress?: boolean;
  /** The target's backing file: only what differs from it is written. */
  readonly below?: BlockSource | undefined;
  /** Bytes a second. */
  readonly rate?: number | undefined;
  readonly salvage?: ((offset: number, length: number) => void) | undefined;
}

/** Where the pieces of a window go. */
export interface Sink {
  /** Pieces begin and end at multiples of this, but for the disk's end. */
  readonly unit: number;
  data(windows: Windows, at: number, length: number): void;
  zero(offset: number, length: number): void;
  /** Ends a window; gives the writes that go together with the next window's reads. */
  end(windows: Windows): TransferOp[];
}

/** Copies the disk `source` to `target`, which is as large or larger; yields the bytes done after each step. */
export function* copyDisk(source: BlockSource, target: WritableImage, options: CopyOptions): Generator<number> {
  const sparse = options.sparseSize ?? 4096;
  const fine = sparse > 0 && sparse < 4096 ? 512 * 2 ** Math.floor(Math.log2(Math.max(1, sparse / 512))) : 4096;
  const sink = options.compress ? compressor(target, options.zeroed) : plainSink(target, options.zeroed, fine);
  const granule = Math.min(sink.unit, fine);
  const windows = new Windows(source, granule, options.compress ? COMPRESS_WINDOW : COPY_WINDOW, { salvage: options.salvage });
  const { size } = source;
  const { unit } = sink;
  const pace = new Pace(options.rate);
  let writes: TransferOp[] = [];
  for (let pos = 0; pos < size; ) {
    const skip = options.below === undefined ? zeroLength(source, pos, sparse === 0) : sameLength(source, options.below, pos);
    const whole = pos + skip >= size ? size - pos : Math.floor(skip / unit) * unit;
    if (whole > 0) {
      if (options.below === undefined) sink.zero(pos, whole);
      pos += whole;
      yield pos;
      continue;
    }
    const length = Math.min(windows.window, size - pos);
    windows.read(pos, length, writes);
    distribute(windows, sink, sparse, options.below);
    writes = sink.end(windows);
    pos += length;
    yield* pace.wait(length, pos);
    yield pos;
  }
  windows.write(writes);
}

/** Bytes at `pos` that are known to be zero without reading. */
function zeroLength(source: BlockSource, pos: number, none: boolean): number {
  if (none) return 0;
  let n = 0;
  while (pos + n < source.size) {
    const run = source.map(pos + n, source.size - pos - n);
    if (run.kind !== 'zero') break;
    n += run.length;
  }
  return n;
}

/** Bytes at `pos` that both take from the same place. */
function sameLength(source: BlockSource, below: BlockSource, pos: number): number {
  let n = 0;
  while (pos + n < source.size) {
    const same = sameRun(source, below, pos + n, source.size - pos - n);
    if (same === 0) break;
    n += same;
  }
  return n;
}

/** Gives each unit of the window to the sink: as data, as zero, or (equal to what is below) not at all. */
function distribute(windows: Windows, sink: Sink, sparse: number, below: BlockSource | undefined): void {
  const { unit } = sink;
  const { granule, length, start, zeroMap } = windows;
  const per = unit / granule;
  const units = Math.ceil(length / unit);
  /** 0 data, 1 zero, 2 the same as below. */
  const state = new Uint8Array(units);
  for (let u = 0; u < units; u++) {
    let zero = 1;
    for (let k = u * per; k < Math.min(zeroMap.length, (u + 1) * per); k++) if (zeroMap[k] === 0) zero = 0;
    state[u] = zero;
  }
  if (below !== undefined) markSame(windows, unit, below, state);
  else if (sparse === 0) state.fill(0);
  else if (sparse > unit) dropShortZeroes(state, Math.floor(sparse / unit));
  for (let u = 0; u < units; ) {
    let e = u + 1;
    while (e < units && state[e] === state[u]) e++;
    const at = u * unit;
    const n = Math.min(length, e * unit) - at;
    if (state[u] === 0) sink.data(windows, at, n);
    else if (state[u] === 1) sink.zero(start + at, n);
    u = e;
  }
}

function dropShortZeroes(state: Uint8Array, least: number): void {
  for (let u = 0; u < state.length; ) {
    let e = u + 1;
    while (e < state.length && state[e] === state[u]) e++;
    // A run that touches the window's edge may go on behind it.
    if (state[u] === 1 && e - u < least && u > 0 && e < state.length) state.fill(0, u, e);
    u = e;
  }
}

function markSame(windows: Windows, unit: number, below: BlockSource, state: Uint8Array): void {
  const { start, length, buffer } = windows;
  const theirs = new Uint8Array(length);
  const inside = Math.max(0, Math.min(length, below.size - start));
  if (inside > 0) below.read(theirs.subarray(0, inside), start);
  for (let u = 0; u < state.length; u++) {
    const end = Math.min(length, (u + 1) * unit);
    if (Buffer.compare(buffer.subarray(u * unit, end), theirs.subarray(u * unit, end)) === 0) state[u] = 2;
  }
}

/** Data as it is: natively where the target says a place, else by its `write`. */
function plainSink(target: WritableImage, zeroed: boolean, fine: number): Sink {
  // Whole clusters are placed natively; a part of one would have to be filled up first.
  const unit = target.format === 'qcow2' ? (target.describe().clusterSize ?? fine) : fine;
  let ops: TransferOp[] = [];
  return {
    unit,
    data(windows, at, length) {
      const offset = windows.start + at;
      let done = 0;
      for (const p of target.placeForWrite?.(offset, length) ?? [{ length, fd: -1, offset: 0 }]) {
        if (p.fd >= 0) writeOps(ops, p.fd, p.offset, p.length, windows.base + at + done);
        else target.write(windows.buffer.subarray(at + done, at + done + p.length), offset + done);
        done += p.length;
      }
    },
    zero(offset, length) {
      if (!zeroed) target.zero(offset, length);
    },
    end() {
      const now = ops;
      ops = [];
      return now;
    },
  };
}

/** Keeps a job to so many bytes a second. */
class Pace {
  readonly #begin = Date.now();
  #bytes = 0;
  constructor(private readonly rate: number | undefined) {}
  /** Sleeps in short steps, so that an interrupt is seen. */
  *wait(bytes: number, pos: number): Generator<number> {
    if (this.rate === undefined || this.rate <= 0) return;
    this.#bytes += bytes;
    const until = this.#begin + (this.#bytes / this.rate) * 1000;
    for (let left = until - Date.now(); left > 0; left = until - Date.now()) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(left, 50));
      yield pos;
    }
  }
}
