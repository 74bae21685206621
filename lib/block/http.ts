import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { packageRoot } from '../addon/load.js';
import { type ErrorCode, GuestError } from '../core/errors.js';
import { Lru } from '../core/lru.js';
import { FAILED, type HttpFailure, type HttpOpened, type HttpRequest, IDLE } from './http-protocol.js';
import { type BlockSource, checkRange, type Range, type Run } from './source.js';

export interface HttpOptions {
  /** Sent with every request, for instance Authorization. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes of one cached block, and of one request. */
  readonly blockSize?: number;
  /** Bytes of cache. */
  readonly cacheBytes?: number;
  readonly timeoutMs?: number;
}

/** Requests that run at once. */
const PARALLEL = 8;

/**
 * A remote file read by HTTP range requests (RFC 9110, section 14): nothing is downloaded but the blocks that are read.
 * The requests run in a worker thread; this side waits for them on shared memory, so that reading stays synchronous.
 * A file that changes on the server (length, ETag or Last-Modified) ends in an error, never in mixed contents.
 */
export class HttpSource implements BlockSource {
  readonly label: string;
  readonly size: number;
  readonly sectorSize = 512;
  readonly #worker: Worker;
  readonly #control = new Int32Array(new SharedArrayBuffer(8));
  readonly #data: Uint8Array;
  readonly #cache: Lru<number, Uint8Array>;
  readonly #blockSize: number;
  readonly #timeoutMs: number;
  #closed = false;
  /** The block that a sequential reader would ask for next, and how many blocks it gets ahead. */
  #expected = -1;
  #ahead = 0;

  constructor(
    readonly url: string,
    options: HttpOptions = {},
  ) {
    const u = new URL(url);
    const headers: Record<string, string> = { 'user-agent': 'guestwright', ...environmentHeaders(), ...options.headers };
    if (u.username !== '') {
      headers['authorization'] ??=
        `Basic ${Buffer.from(`${decodeURIComponent(u.username)}:${decodeURIComponent(u.password)}`).toString('base64')}`;
      u.username = '';
      u.password = '';
    }
    this.label = u.href;
    this.#blockSize = options.blockSize ?? 256 << 10;
    this.#timeoutMs = options.timeoutMs ?? 120_000;
    this.#cache = new Lru(options.cacheBytes ?? 64 << 20);
    this.#data = new Uint8Array(new SharedArrayBuffer(PARALLEL * this.#blockSize));
    this.#worker = new Worker(workerFile(), { stdout: false, stderr: false });
    this.#worker.unref();
    try {
      this.#ask({
        kind: 'open',
        url: u.href,
        headers,
        control: this.#control.buffer as SharedArrayBuffer,
        data: this.#data.buffer as SharedArrayBuffer,
      });
      const opened = JSON.parse(this.#text()) as HttpOpened;
      this.size = opened.size;
    } catch (e) {
      this.close();
      throw e;
    }
  }

  #ask(message: HttpRequest): void {
    Atomics.store(this.#control, 0, IDLE);
    this.#worker.postMessage(message);
    if (Atomics.wait(this.#control, 0, IDLE, this.#timeoutMs) === 'timed-out')
      throw new GuestError('io', `no answer within ${this.#timeoutMs / 1000} s`, { path: this.label });
    if (Atomics.load(this.#control, 0) === FAILED) {
      const failure = JSON.parse(this.#text()) as HttpFailure;
      throw new GuestError(failure.code as ErrorCode, failure.message, { path: this.label });
    }
  }
  #text(): string {
    return new TextDecoder().decode(this.#data.slice(0, Atomics.load(this.#control, 1)));
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    if (into.length === 0) return;
    const bs = this.#blockSize;
    const first = Math.floor(offset / bs);
    const last = Math.floor((offset + into.length - 1) / bs);
    const sequential = first === this.#expected || first === this.#expected - 1;
    for (let b = first; b <= last; ) {
      // One batch at a time, so that a large read does not need the cache to hold all of it.
      const end = Math.min(last, b + PARALLEL - 1);
      const missing: number[] = [];
      for (let k = b; k <= end; k++) if (this.#cache.get(k) === undefined) missing.push(k);
      if (missing.length > 0) {
        this.#ahead = sequential ? Math.min(PARALLEL - 1, this.#ahead * 2 + 1) : 0;
        for (let k = end + 1; k <= end + this.#ahead && missing.length < PARALLEL && k * bs < this.size; k++)
          if (this.#cache.get(k) === undefined) missing.push(k);
        this.#fetch(missing);
      }
      for (; b <= end; b++) {
        const start = b * bs;
        const from = Math.max(offset, start);
        const to = Math.min(offset + into.length, start + bs);
        into.set(this.#cache.get(b)!.subarray(from - start, to - start), from - offset);
      }
    }
    this.#expected = last + 1;
  }

  #fetch(blocks: readonly number[]): void {
    const bs = this.#blockSize;
    const parts = blocks.map((b, i) => ({ offset: b * bs, length: Math.min(bs, this.size - b * bs), at: i * bs }));
    this.#ask({ kind: 'read', parts });
    for (const [i, p] of parts.entries()) this.#cache.set(blocks[i]!, this.#data.slice(p.at, p.at + p.length), bs);
  }

  prefetch(ranges: readonly Range[]): void {
    const wanted = new Set<number>();
    for (const r of ranges)
      for (let b = Math.floor(r.offset / this.#blockSize); b * this.#blockSize < Math.min(this.size, r.offset + r.length); b++)
        if (wanted.size < PARALLEL && this.#cache.get(b) === undefined) wanted.add(b);
    if (wanted.size > 0) this.#fetch([...wanted]);
  }

  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return { kind: 'computed', length };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    void this.#worker.terminate();
    this.#cache.clear();
  }
}

/**
 * Headers for every request, one a line, from GUESTWRIGHT_HTTP_HEADERS: a token must not stand on a command line, where other
 * users see it.
 */
function environmentHeaders(): Record<string, string> {
  const out: Record<string, string> = {};
  for (const line of (process.env['GUESTWRIGHT_HTTP_HEADERS'] ?? '').split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) out[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim();
  }
  return out;
}

/** Beside this file when compiled or bundled; from the build when this runs from its TypeScript source. */
const workerFile = (): string | URL =>
  import.meta.url.endsWith('.ts')
    ? join(packageRoot(), 'dist', 'bin', 'http-worker.js')
    : new URL('./http-worker.js', import.meta.url);
