import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { packageRoot } from '../addon/load.js';
import { type ErrorCode, GuestError } from '../core/errors.js';
import { Lru } from '../core/lru.js';
import {
  ANSWER_SLOT,
  FAILED,
  IDLE,
  type NbdFailure,
  type NbdOpened,
  type NbdPart,
  type NbdRequest,
  SLOTS,
} from './nbd-messages.js';
import { FLAG, STATE_ZERO } from './nbd-protocol.js';
import { formatNbdUri, parseNbdUri } from './nbd-uri.js';
import { type BlockSource, checkRange, type Range, type Run, type WritableSource } from './source.js';

export interface NbdOptions {
  /** Bytes of one cached block. */
  readonly blockSize?: number;
  readonly cacheBytes?: number;
  readonly timeoutMs?: number;
}

/** Requests that run at once. */
const PARALLEL = 8;
const BLOCK = 256 << 10;
/** Allocation is asked for in ranges of this size. */
const STATUS_STEP = 1 << 30;
const ZERO_STEP = 1 << 30;

/** Allocation from `start` on: where each run ends, and whether it is zero. */
interface KnownRuns {
  readonly start: number;
  readonly ends: number[];
  readonly zero: boolean[];
  /** The run that was asked for last. */
  cursor: number;
}

/** What a reading slot holds, or will hold when its request is answered. */
interface Stretch {
  offset: number;
  length: number;
  pending: boolean;
}

/**
 * An export of an NBD server.  The connection lives in a worker thread; this side waits for it on shared memory, so that
 * reading stays synchronous.  A dropped connection is made anew once for a read; a write is never repeated.
 */
export class NbdSource implements BlockSource {
  readonly label: string;
  readonly size: number;
  readonly sectorSize = 512;
  protected readonly opened: NbdOpened;
  /** The slot for everything but reading ahead. */
  protected readonly data: Uint8Array;
  readonly #memory: Uint8Array;
  readonly #slotBytes: number;
  protected readonly cache: Lru<number, Uint8Array>;
  protected readonly blockSize: number;
  readonly #worker: Worker;
  readonly #control = new Int32Array(new SharedArrayBuffer(8 * SLOTS));
  readonly #timeoutMs: number;
  #closed = false;
  #broken: GuestError | undefined;
  /** The block that a sequential reader would ask for next, and how many blocks it gets ahead. */
  #expected = -1;
  #ahead = 0;
  /** Long reads: what the two reading slots hold, and where the last one ended. */
  readonly #stretches: readonly [Stretch, Stretch] = [
    { offset: 0, length: 0, pending: false },
    { offset: 0, length: 0, pending: false },
  ];
  #readEnd = -1;
  #status: KnownRuns | undefined;

  constructor(
    readonly uri: string,
    options: NbdOptions = {},
    writable = false,
  ) {
    const target = parseNbdUri(uri);
    this.label = formatNbdUri(target);
    this.blockSize = options.blockSize ?? BLOCK;
    this.#timeoutMs = options.timeoutMs ?? 120_000;
    this.cache = new Lru(options.cacheBytes ?? 64 << 20);
    this.#slotBytes = PARALLEL * this.blockSize;
    this.#memory = new Uint8Array(new SharedArrayBuffer(SLOTS * this.#slotBytes));
    this.data = this.#memory.subarray(ANSWER_SLOT * this.#slotBytes);
    this.#worker = new Worker(workerFile(), { stdout: false, stderr: false });
    this.#worker.unref();
    try {
      this.ask({
        kind: 'open',
        uri,
        writable,
        timeoutMs: Math.min(30_000, this.#timeoutMs),
        control: this.#control.buffer as SharedArrayBuffer,
        data: this.#memory.buffer as SharedArrayBuffer,
      });
      this.opened = JSON.parse(this.#text(ANSWER_SLOT)) as NbdOpened;
      this.size = this.opened.size;
    } catch (e) {
      this.#closed = true;
      void this.#worker.terminate();
      throw e;
    }
  }

  protected ask(request: NbdRequest): void {
    this.#post(ANSWER_SLOT, request);
    this.#wait(ANSWER_SLOT);
  }
  #post(slot: number, request: NbdRequest): void {
    if (this.#closed) throw new GuestError('internal', `internal error: ${this.label} is closed`);
    if (this.#broken !== undefined) throw this.#broken;
    Atomics.store(this.#control, 2 * slot, IDLE);
    this.#worker.postMessage({ ...request, slot });
  }
  #wait(slot: number): void {
    if (Atomics.wait(this.#control, 2 * slot, IDLE, this.#timeoutMs) === 'timed-out') {
      // The late answer would be taken for the next one's.
      this.#broken = new GuestError('io', `no answer within ${this.#timeoutMs / 1000} s`, { path: this.label });
      throw this.#broken;
    }
    if (Atomics.load(this.#control, 2 * slot) === FAILED) {
      const f = JSON.parse(this.#text(slot)) as NbdFailure;
      throw new GuestError(f.code as ErrorCode, f.message, { ...f.where, path: this.label });
    }
  }
  #text(slot: number): string {
    const start = slot * this.#slotBytes;
    return new TextDecoder().decode(this.#memory.slice(start, start + Atomics.load(this.#control, 2 * slot + 1)));
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    const bs = this.blockSize;
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const inBlock = at % bs;
      const whole = Math.floor((into.length - done) / bs) * bs;
      // A long read goes past the cache: its bytes are copied once less, and what is cached stays.
      if (inBlock === 0 && whole >= 2 * bs) {
        const n = Math.min(whole, PARALLEL * bs);
        this.#readWhole(into.subarray(done, done + n), at);
        done += n;
        continue;
      }
      const n = Math.min(into.length - done, bs - inBlock);
      const block = this.#block((at - inBlock) / bs);
      into.set(n === bs ? block : block.subarray(inBlock, inBlock + n), done);
      done += n;
    }
  }

  /** A long read, at most a slot long.  Where they follow each other, the next one is on its way while this one is used. */
  #readWhole(into: Uint8Array, offset: number): void {
    const end = offset + into.length;
    const sequential = offset === this.#readEnd;
    let slot = this.#stretches.findIndex((s) => s.offset <= offset && end <= s.offset + s.length);
    if (slot < 0) {
      slot = this.#stretches[0].pending ? 1 : 0;
      this.#start(slot, offset, sequential ? Math.min(this.#slotBytes, this.size - offset) : into.length);
    }
    const s = this.#stretches[slot]!;
    this.#settle(slot);
    const next = s.offset + s.length;
    const other = this.#stretches[1 - slot]!;
    if (sequential && next < this.size && (other.offset !== next || other.length === 0))
      this.#start(1 - slot, next, Math.min(this.#slotBytes, this.size - next));
    const from = slot * this.#slotBytes + offset - s.offset;
    into.set(this.#memory.subarray(from, from + into.length));
    this.#readEnd = end;
    this.#expected = Math.floor(end / this.blockSize);
  }

  #start(slot: number, offset: number, length: number): void {
    const s = this.#stretches[slot]!;
    if (s.pending)
      try {
        this.#settle(slot);
      } catch (e) {
        // Nobody asked for those bytes yet; whoever does is told.
        if (this.#broken !== undefined) throw e;
      }
    this.#post(slot, { kind: 'read', parts: this.parts(offset, length) });
    Object.assign(s, { offset, length, pending: true });
  }

  #settle(slot: number): void {
    const s = this.#stretches[slot]!;
    if (!s.pending) return;
    s.pending = false;
    try {
      this.#wait(slot);
    } catch (e) {
      s.length = 0;
      throw e;
    }
  }

  /** What was read ahead is no longer so. */
  protected forgetAhead(): void {
    for (const s of this.#stretches) s.length = 0;
    this.#readEnd = -1;
  }

  /** A range that fits into the shared memory, cut into requests. */
  protected parts(offset: number, length: number): NbdPart[] {
    const { minimumBlock, maximumBlock } = this.opened;
    const most = Math.min(this.blockSize, Math.floor(maximumBlock / minimumBlock) * minimumBlock);
    const parts: NbdPart[] = [];
    for (let at = 0; at < length; at += most) parts.push({ offset: offset + at, length: Math.min(most, length - at), at });
    return parts;
  }

  #block(index: number): Uint8Array {
    const known = this.cache.get(index);
    if (known !== undefined) {
      if (index === this.#expected) this.#expected = index + 1;
      return known;
    }
    this.#ahead = index === this.#expected ? Math.min(PARALLEL - 1, this.#ahead * 2 + 1) : 0;
    const wanted = [index];
    for (let k = index + 1; k <= index + this.#ahead && k * this.blockSize < this.size; k++) {
      if (this.cache.get(k) !== undefined) break;
      wanted.push(k);
    }
    this.#expected = index + 1;
    return this.#fetch(wanted);
  }

  /** Fetches blocks into the cache; gives the first. */
  #fetch(blocks: readonly number[]): Uint8Array {
    const bs = this.blockSize;
    const spans = blocks.map((b, i) => ({ offset: b * bs, length: Math.min(bs, this.size - b * bs), at: i * bs }));
    this.ask({
      kind: 'read',
      parts: spans.flatMap((s) => this.parts(s.offset, s.length).map((p) => ({ ...p, at: p.at + s.at }))),
    });
    const found = spans.map((s) => this.data.slice(s.at, s.at + s.length));
    for (const [i, b] of found.entries()) this.cache.set(blocks[i]!, b, bs);
    return found[0]!;
  }

  prefetch(ranges: readonly Range[]): void {
    const wanted = new Set<number>();
    for (const r of ranges)
      for (let b = Math.floor(r.offset / this.blockSize); b * this.blockSize < Math.min(this.size, r.offset + r.length); b++) {
        if (wanted.size >= PARALLEL) break;
        if (this.cache.get(b) === undefined) wanted.add(b);
      }
    if (wanted.size > 0) this.#fetch([...wanted]);
  }

  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    if (!this.opened.status || length === 0) return { kind: 'computed', length };
    let s = this.#status;
    if (s === undefined || offset < s.start || offset >= s.ends.at(-1)!) s = this.#status = this.#askStatus(offset);
    let i = s.cursor;
    if (offset < (i === 0 ? s.start : s.ends[i - 1]!)) i = 0;
    while (s.ends[i]! <= offset) i++;
    s.cursor = i;
    return { kind: s.zero[i]! ? 'zero' : 'computed', length: Math.min(length, s.ends[i]! - offset) };
  }

  #askStatus(offset: number): KnownRuns {
    const start = offset - (offset % this.opened.minimumBlock);
    this.ask({ kind: 'status', offset: start, length: Math.min(STATUS_STEP, this.size - start) });
    const pairs = new Float64Array(this.data.buffer, this.data.byteOffset, Atomics.load(this.#control, 2 * ANSWER_SLOT + 1));
    const ends: number[] = [];
    const zero: boolean[] = [];
    let at = start;
    for (let i = 0; i < pairs.length; i += 2) {
      at += pairs[i]!;
      const isZero = (pairs[i + 1]! & STATE_ZERO) !== 0;
      if (zero.at(-1) === isZero) ends[ends.length - 1] = at;
      else {
        ends.push(at);
        zero.push(isZero);
      }
    }
    if (at <= offset)
      throw new GuestError('corrupt', 'the server told nothing of the range it was asked about', { path: this.label });
    return { start, ends, zero, cursor: 0 };
  }
  protected forgetStatus(): void {
    this.#status = undefined;
  }

  close(): void {
    if (this.#closed) return;
    try {
      // The server is told: one that serves a single client waits for that.
      if (this.#broken === undefined) this.ask({ kind: 'close' });
    } catch {
      // It is gone anyway.
    }
    this.#closed = true;
    void this.#worker.terminate();
    this.cache.clear();
  }
}

/** An export that the server lets us write to. */
export class WritableNbdSource extends NbdSource implements WritableSource {
  #zeroes: Uint8Array | undefined;

  constructor(uri: string, options: NbdOptions = {}) {
    super(uri, options, true);
  }

  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    const align = this.opened.minimumBlock;
    const start = offset - (offset % align);
    const end = Math.min(this.size, Math.ceil((offset + from.length) / align) * align);
    if (start === offset && end === offset + from.length) return this.#writeAligned(from, offset);
    // The server takes whole blocks only: what is around is read and written back.
    const b = new Uint8Array(end - start);
    this.read(b.subarray(0, offset - start), start);
    this.read(b.subarray(offset - start + from.length), offset + from.length);
    b.set(from, offset - start);
    this.#writeAligned(b, start);
  }

  #writeAligned(from: Uint8Array, offset: number): void {
    const most = this.data.length;
    for (let done = 0; done < from.length; done += most) {
      const part = from.subarray(done, Math.min(from.length, done + most));
      this.#changed(offset + done, part.length);
      this.data.set(part);
      this.ask({ kind: 'write', parts: this.parts(offset + done, part.length) });
    }
  }

  /** What is cached of a range is no longer so, whether the write succeeds or not. */
  #changed(offset: number, length: number): void {
    this.forgetStatus();
    this.forgetAhead();
    const last = Math.floor((offset + length - 1) / this.blockSize);
    const first = Math.floor(offset / this.blockSize);
    if (last - first > this.cache.size) this.cache.clear();
    else for (let b = first; b <= last; b++) this.cache.delete(b);
  }

  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.#range('zero', FLAG.SEND_WRITE_ZEROES, offset, length);
  }

  /** The protocol lets a trimmed range read as anything; real servers give zeroes or what was there. */
  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    if ((this.opened.flags & FLAG.SEND_TRIM) === 0) return;
    this.#range('trim', FLAG.SEND_TRIM, offset, length);
  }

  #range(kind: 'zero' | 'trim', flag: number, offset: number, length: number): void {
    const align = this.opened.minimumBlock;
    const start = Math.ceil(offset / align) * align;
    const end = Math.floor((offset + length) / align) * align;
    const able = (this.opened.flags & flag) !== 0 && start < end;
    if (able)
      for (let at = start; at < end; at += ZERO_STEP) {
        const n = Math.min(ZERO_STEP, end - at);
        this.#changed(at, n);
        this.ask({ kind, offset: at, length: n });
      }
    if (kind === 'trim') return;
    if (able) {
      this.#writeZeroes(offset, start - offset);
      this.#writeZeroes(end, offset + length - end);
    } else this.#writeZeroes(offset, length);
  }
  #writeZeroes(offset: number, length: number): void {
    if (length <= 0) return;
    this.#zeroes ??= new Uint8Array(1 << 20);
    for (let at = 0; at < length; at += this.#zeroes.length)
      this.write(this.#zeroes.subarray(0, Math.min(this.#zeroes.length, length - at)), offset + at);
  }

  flush(): void {
    this.ask({ kind: 'flush' });
  }
}

/** Opens an NBD address. */
export const openNbd = (uri: string, writable: boolean, options: NbdOptions = {}): NbdSource =>
  writable ? new WritableNbdSource(uri, options) : new NbdSource(uri, options);

/** Beside this file when compiled or bundled; from the build when this runs from its TypeScript source. */
const workerFile = (): string | URL =>
  import.meta.url.endsWith('.ts')
    ? join(packageRoot(), 'dist', 'bin', 'nbd-worker.js')
    : new URL('./nbd-worker.js', import.meta.url);
