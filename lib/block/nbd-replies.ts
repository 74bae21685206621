import { GuestError } from '../core/errors.js';
import { viewOf } from '../core/struct.js';
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_IS_ERROR,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REPLY_SIZE,
  getU64,
  SIMPLE_REPLY_MAGIC,
  SIMPLE_REPLY_SIZE,
  STRUCTURED_REPLY_MAGIC,
  STRUCTURED_REPLY_SIZE,
} from './nbd-protocol.js';
import { ByteQueue } from './nbd-queue.js';

/** A request that waits for its reply. */
export interface Pending {
  readonly kind: 'read' | 'status' | 'other';
  readonly offset: number;
  readonly length: number;
  /** Where a read's bytes go: `length` bytes. */
  readonly into?: Uint8Array;
  /** Context that a status request is about. */
  readonly context?: number | undefined;
  /** Runs of a status request: length, flags, … */
  readonly runs?: number[];
  done(error?: GuestError): void;
}

interface Waiting {
  readonly p: Pending;
  error: GuestError | undefined;
  /** Ranges of a read that came, in order of their offsets; neighbours joined. */
  readonly covered: { start: number; end: number }[];
}

/** Bytes of one status chunk, and of one error chunk. */
const MAX_STATUS = 4 << 20;
const MAX_ERROR = 64 << 10;
/** Ranges of one read that came out of order and do not touch. */
const MAX_PIECES = 4096;

const NAMES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

/** A server's errno as ours. */
export function serverError(errno: number, message: string): GuestError {
  const name = NAMES[errno] ?? 'EINVAL';
  const text = `the server answered ${name}${message === '' ? '' : `: ${message.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')}`}`;
  const code = errno === 28 ? 'no-space' : errno === 1 ? 'read-only' : errno === 95 ? 'unsupported' : 'io';
  return new GuestError(code, text, { errno: name });
}

const bad = (message: string) => new GuestError('corrupt', `NBD reply: ${message}`);

/**
 * Reads the server's replies: bytes in by `push`, each request answered by its `done`.  Read data goes to its place
 * without being gathered first.  Throws a GuestError when the server breaks the protocol; the connection is then over.
 */
export class ReplyReader {
  readonly #input = new ByteQueue();
  readonly #waiting = new Map<number, Waiting>();
  /** Data of a read under way. */
  #sink: { into: Uint8Array; at: number; left: number; finish: (() => void) | undefined } | undefined;

  constructor(private readonly style: { readonly structured: boolean; readonly extended: boolean }) {}

  get outstanding(): number {
    return this.#waiting.size;
  }
  expect(cookie: number, p: Pending): void {
    this.#waiting.set(cookie, { p, error: undefined, covered: [] });
  }

  /** Everything that waits ends in this error. */
  fail(error: GuestError): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#sink = undefined;
    for (const w of all) w.p.done(error);
  }

  push(bytes: Uint8Array): void {
    this.#input.push(bytes);
    while (this.#step());
  }

  #step(): boolean {
    const sink = this.#sink;
    if (sink !== undefined) {
      if (sink.left > 0) {
        const part = this.#input.takeSome(sink.left);
        if (part.length === 0) return false;
        sink.into.set(part, sink.at);
        sink.at += part.length;
        sink.left -= part.length;
        if (sink.left > 0) return true;
      }
      this.#sink = undefined;
      sink.finish?.();
      return true;
    }
    const first = this.#input.peek(4);
    if (first === undefined) return false;
    const magic = viewOf(first).getUint32(0);
    if (magic === SIMPLE_REPLY_MAGIC && !this.style.extended) return this.#simple();
    if (magic === STRUCTURED_REPLY_MAGIC && this.style.structured && !this.style.extended)
      return this.#chunk(STRUCTURED_REPLY_SIZE);
    if (magic === EXTENDED_REPLY_MAGIC && this.style.extended) return this.#chunk(EXTENDED_REPLY_SIZE);
    throw bad(`bad magic 0x${magic.toString(16)}`);
  }

  #find(v: DataView): { cookie: number; w: Waiting } {
    const cookie = v.getUint32(12);
    const w = v.getUint32(8) === 0 ? this.#waiting.get(cookie) : undefined;
    if (w === undefined) throw bad('it answers no request that we made');
    return { cookie, w };
  }

  #simple(): boolean {
    const head = this.#input.take(SIMPLE_REPLY_SIZE);
    if (head === undefined) return false;
    const v = viewOf(head);
    const errno = v.getUint32(4);
    const { cookie, w } = this.#find(v);
    if (this.style.structured && w.p.kind !== 'other') throw bad('a simple reply where a structured one was agreed on');
    if (errno !== 0) {
      w.error = serverError(errno, '');
      this.#finish(cookie, w);
    } else if (w.p.kind === 'read') {
      w.covered.push({ start: 0, end: w.p.length });
      this.#sink = { into: w.p.into!, at: 0, left: w.p.length, finish: () => this.#finish(cookie, w) };
    } else this.#finish(cookie, w);
    return true;
  }

  #chunk(size: number): boolean {
    const head = this.#input.peek(size);
    if (head === undefined) return false;
    const v = viewOf(head);
    const done = (v.getUint16(4) & CHUNK_DONE) !== 0;
    const type = v.getUint16(6);
    const { cookie, w } = this.#find(v);
    const length = size === EXTENDED_REPLY_SIZE ? getU64(v, 24) : v.getUint32(16);
    const finish = done ? () => this.#finish(cookie, w) : undefined;

    if (type === CHUNK.OFFSET_DATA) {
      if (w.p.kind !== 'read') throw bad('data for a request that reads nothing');
      if (length < 9 || length - 8 > w.p.length) throw bad(`data chunk of ${length} bytes for a read of ${w.p.length}`);
      const whole = this.#input.take(size + 8);
      if (whole === undefined) return false;
      const at = this.#cover(w, getU64(viewOf(whole), size), length - 8);
      this.#sink = { into: w.p.into!, at, left: length - 8, finish };
      return true;
    }
    const most = type === CHUNK.BLOCK_STATUS || type === CHUNK.BLOCK_STATUS_EXT ? MAX_STATUS : MAX_ERROR;
    if (length > most) throw bad(`chunk of type ${type} with ${length} bytes`);
    const whole = this.#input.take(size + length);
    if (whole === undefined) return false;
    const body = whole.subarray(size);
    if ((type & CHUNK_IS_ERROR) !== 0) w.error ??= errorOf(body);
    else if (type === CHUNK.OFFSET_HOLE) this.#hole(w, body);
    else if (type === CHUNK.BLOCK_STATUS || type === CHUNK.BLOCK_STATUS_EXT) status(w.p, type, body);
    else if (type === CHUNK.NONE) {
      if (length > 0 || !done) throw bad('an empty chunk that has bytes or does not end its reply');
    } else throw bad(`unknown chunk type ${type}`);
    finish?.();
    return true;
  }

  #hole(w: Waiting, body: Uint8Array): void {
    if (w.p.kind !== 'read' || body.length !== 12) throw bad(`hole chunk of ${body.length} bytes`);
    const v = viewOf(body);
    const n = v.getUint32(8);
    const at = this.#cover(w, getU64(v, 0), n);
    w.p.into!.fill(0, at, at + n);
  }

  /** Notes a range of a read as answered; its place in the buffer.  Ranges may come in any order but not twice. */
  #cover(w: Waiting, offset: number, length: number): number {
    const start = offset - w.p.offset;
    const end = start + length;
    if (length <= 0 || start < 0 || end > w.p.length) throw bad(`${length} bytes at ${offset}, which were not asked for`);
    const last = w.covered.at(-1);
    if (last === undefined || start > last.end) w.covered.push({ start, end });
    else if (start === last.end) last.end = end;
    else {
      const i = w.covered.findIndex((r) => r.end > start);
      const next = w.covered[i]!;
      if (next.start < end) throw bad(`bytes at ${offset} came twice`);
      w.covered.splice(i, 0, { start, end });
    }
    if (w.covered.length > MAX_PIECES) throw bad(`a read of ${w.p.length} bytes in more than ${MAX_PIECES} scattered pieces`);
    return start;
  }

  #finish(cookie: number, w: Waiting): void {
    this.#waiting.delete(cookie);
    if (w.error === undefined) {
      if (w.p.kind === 'read') {
        let at = 0;
        for (const r of w.covered) {
          if (r.start !== at) break;
          at = r.end;
        }
        if (at !== w.p.length) throw this.#dropped(w, bad(`${w.p.length - at} bytes of a read never came`));
      }
      if (w.p.kind === 'status' && w.p.runs!.length === 0) throw this.#dropped(w, bad('a block status without extents'));
    }
    w.p.done(w.error);
  }
  #dropped(w: Waiting, e: GuestError): GuestError {
    w.p.done(e);
    return e;
  }
}

function errorOf(body: Uint8Array): GuestError {
  if (body.length < 6) throw bad(`error chunk of ${body.length} bytes`);
  const v = viewOf(body);
  const n = v.getUint16(4);
  if (n > body.length - 6) throw bad('an error message longer than its chunk');
  const errno = v.getUint32(0);
  if (errno === 0) throw bad('an error chunk without an error');
  return serverError(errno, new TextDecoder().decode(body.subarray(6, 6 + n)));
}

function status(p: Pending, type: number, body: Uint8Array): void {
  if (p.kind !== 'status') throw bad('block status for a request that did not ask');
  const extended = type === CHUNK.BLOCK_STATUS_EXT;
  const head = extended ? 8 : 4;
  const each = extended ? 16 : 8;
  if (body.length < head + each || (body.length - head) % each !== 0) throw bad(`block status of ${body.length} bytes`);
  const v = viewOf(body);
  if (v.getUint32(0) !== p.context) throw bad(`block status of context ${v.getUint32(0)}`);
  if (extended && v.getUint32(4) !== (body.length - head) / each) throw bad('block status with a wrong count');
  if (p.runs!.length > 0) throw bad('block status of one context twice');
  let at = 0;
  for (let i = head; i < body.length && at < p.length; i += each) {
    const n = extended ? getU64(v, i) : v.getUint32(i);
    const flags = extended ? getU64(v, i + 8) : v.getUint32(i + 4);
    if (n === 0 || !Number.isSafeInteger(n)) throw bad(`an extent of ${n} bytes`);
    p.runs!.push(Math.min(n, p.length - at), flags);
    at += n;
  }
}
