import { CMD, CMD_DF, CMD_FAST_ZERO, CMD_FUA, CMD_NO_HOLE, CMD_REQ_ONE, ERRNO, MAX_PAYLOAD } from '../../block/nbd-protocol.js';
import { isWritable, type WritableSource } from '../../block/source.js';
import { explain } from '../../core/errors.js';
import { debug } from '../../core/log.js';
import { errnoOf, type MetaContext } from './export.js';
import type { Agreement } from './handshake.js';
import type { ReplyWriter, RequestId } from './reply.js';

export interface Request extends RequestId {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** The bytes of a write. */
  readonly payload?: Uint8Array | undefined;
}

/** A request that takes long gives the other connections their turn after so many bytes. */
const STEP = 8 << 20;
/** Extents told in one answer; the client asks again for the rest. */
const MAX_EXTENTS = 16384;
/** Zero runs shorter than this are sent as data: a chunk costs more than the bytes. */
const MIN_HOLE = 4096;

/** The command flags that each command knows. */
const KNOWN_FLAGS: Readonly<Record<number, number>> = {
  [CMD.READ]: CMD_DF | CMD_FUA,
  [CMD.WRITE]: CMD_FUA,
  [CMD.FLUSH]: CMD_FUA,
  [CMD.TRIM]: CMD_FUA,
  [CMD.CACHE]: CMD_FUA,
  [CMD.WRITE_ZEROES]: CMD_FUA | CMD_NO_HOLE | CMD_FAST_ZERO,
  [CMD.BLOCK_STATUS]: CMD_REQ_ONE | CMD_FUA,
};
const WRITES: ReadonlySet<number> = new Set([CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES]);

class Refused extends Error {
  constructor(
    readonly errno: number,
    message: string,
  ) {
    super(message);
  }
}

/** The commands of the transmission phase over one export.  Every request ends in exactly one reply. */
export class Commands {
  constructor(
    private readonly agreed: Agreement,
    private readonly reply: ReplyWriter,
  ) {}

  /** Steps of one request: between two of them the caller may let others run. */
  *run(q: Request): Generator<void> {
    const structuredOnly = q.type === CMD.READ || q.type === CMD.BLOCK_STATUS;
    try {
      this.#check(q);
      switch (q.type) {
        case CMD.READ:
          this.#read(q);
          return;
        case CMD.WRITE:
          this.#target().write(q.payload!, q.offset);
          break;
        case CMD.FLUSH:
          if (!this.agreed.export.readOnly) this.#target().flush();
          break;
        case CMD.TRIM:
          yield* this.#trim(q);
          break;
        case CMD.CACHE:
          this.agreed.export.source.prefetch?.([{ offset: q.offset, length: Math.min(q.length, STEP) }]);
          break;
        case CMD.WRITE_ZEROES:
          yield* this.#zero(q);
          break;
        case CMD.BLOCK_STATUS:
          yield* this.#status(q);
          return;
      }
      const through = (q.flags & CMD_FUA) !== 0 || this.agreed.export.writeThrough === true;
      if (through && WRITES.has(q.type)) this.#target().flush();
      this.reply.done(q, false);
    } catch (e) {
      const errno = e instanceof Refused ? e.errno : errnoOf(e);
      debug('nbd', () => `command ${q.type} at ${q.offset}, ${q.length} bytes: ${explain(e)}`);
      this.reply.error(q, errno, e instanceof Refused ? e.message : explain(e), structuredOnly);
    }
  }

  #target(): WritableSource {
    const { source } = this.agreed.export;
    if (!isWritable(source)) throw new Refused(ERRNO.EPERM, 'the export is read-only');
    return source;
  }

  /** Everything that can be said without touching the disk. */
  #check(q: Request): void {
    const { export: e } = this.agreed;
    const known = KNOWN_FLAGS[q.type];
    if (known === undefined) throw new Refused(ERRNO.EINVAL, `command ${q.type} is not known`);
    if ((q.flags & ~known) !== 0) throw new Refused(ERRNO.EINVAL, `command ${q.type} with flags 0x${q.flags.toString(16)}`);
    if ((q.flags & CMD_DF) !== 0 && this.reply.style === 'simple')
      throw new Refused(ERRNO.EINVAL, 'DF without structured replies');
    if (WRITES.has(q.type) && e.readOnly) throw new Refused(ERRNO.EPERM, 'the export is read-only');
    if (q.type === CMD.FLUSH) {
      if (q.offset !== 0 || q.length !== 0) throw new Refused(ERRNO.EINVAL, 'flush with an offset or a length');
      return;
    }
    if (q.type === CMD.READ && q.length > MAX_PAYLOAD)
      throw new Refused(ERRNO.EINVAL, `read of ${q.length} bytes (at most ${MAX_PAYLOAD})`);
    if (q.length === 0 && q.type === CMD.BLOCK_STATUS) throw new Refused(ERRNO.EINVAL, 'block status of 0 bytes');
    // Not written as a sum: both come from the client and may be as large as they like.
    if (q.offset > e.source.size || q.length > e.source.size - q.offset)
      throw new Refused(
        q.type === CMD.WRITE || q.type === CMD.WRITE_ZEROES ? ERRNO.ENOSPC : ERRNO.EINVAL,
        `${q.length} bytes at ${q.offset} are outside (size ${e.source.size})`,
      );
    const align = e.minimumBlock ?? 1;
    if (q.offset % align !== 0 || q.length % align !== 0)
      throw new Refused(ERRNO.EINVAL, `${q.length} bytes at ${q.offset} are not aligned to ${align}`);
  }

  #read(q: Request): void {
    const { source } = this.agreed.export;
    if (this.reply.style === 'simple' || (q.flags & CMD_DF) !== 0 || q.length < MIN_HOLE) {
      const data = Buffer.allocUnsafe(q.length);
      source.read(data, q.offset);
      if (this.reply.style === 'simple') this.reply.simpleData(q, data);
      else if (q.length === 0) this.reply.done(q, true);
      else this.reply.data(q, q.offset, data, true);
      return;
    }
    // All of it is read before anything is told: an error is then an error of the request, not of half of it.
    const parts: { at: number; length: number; data?: Uint8Array }[] = [];
    const end = q.offset + q.length;
    for (let at = q.offset; at < end; ) {
      const run = source.map(at, end - at);
      const last = parts.at(-1);
      const zero = run.kind === 'zero' && (run.length >= MIN_HOLE || (last !== undefined && last.data === undefined));
      if (last !== undefined && (last.data === undefined) === zero) last.length += run.length;
      else parts.push({ at, length: run.length, ...(zero ? {} : { data: NO_BYTES }) });
      at += run.length;
    }
    for (const p of parts)
      if (p.data !== undefined) {
        p.data = Buffer.allocUnsafe(p.length);
        source.read(p.data, p.at);
      }
    for (const [i, p] of parts.entries()) {
      const last = i === parts.length - 1;
      if (p.data === undefined) this.reply.hole(q, p.at, p.length, last);
      else this.reply.data(q, p.at, p.data, last);
    }
  }

  *#trim(q: Request): Generator<void> {
    const { export: e } = this.agreed;
    const target = this.#target();
    if (e.discard === false || target.discard === undefined) return;
    for (let at = 0; at < q.length; at += 1 << 30) {
      if (at > 0) yield;
      target.discard(q.offset + at, Math.min(1 << 30, q.length - at));
    }
  }

  *#zero(q: Request): Generator<void> {
    const fast = (q.flags & CMD_FAST_ZERO) !== 0;
    const allocate = (q.flags & CMD_NO_HOLE) !== 0;
    if (fast && (allocate || this.agreed.export.fastZero !== true))
      throw new Refused(ERRNO.ENOTSUP, 'zeroing is not faster than writing zeroes here');
    const target = this.#target();
    const step = this.agreed.export.fastZero === true && !allocate ? 1 << 30 : STEP;
    for (let at = 0; at < q.length; at += step) {
      if (at > 0) yield;
      const n = Math.min(step, q.length - at);
      if (!allocate) target.zero(q.offset + at, n);
      else
        for (let done = 0; done < n; done += ZEROES.length)
          target.write(ZEROES.subarray(0, Math.min(ZEROES.length, n - done)), q.offset + at + done);
    }
  }

  *#status(q: Request): Generator<void> {
    const chosen = [...this.agreed.contexts];
    if (chosen.length === 0) throw new Refused(ERRNO.EINVAL, 'no metadata context was agreed on');
    const answers: number[][] = [];
    for (const [, context] of chosen) {
      answers.push(yield* this.#runs(context, q));
      yield;
    }
    for (const [i, [id]] of chosen.entries()) this.reply.status(q, id, answers[i]!, i === chosen.length - 1);
  }

  *#runs(context: MetaContext, q: Request): Generator<void, number[]> {
    const most = (q.flags & CMD_REQ_ONE) !== 0 ? 1 : MAX_EXTENTS;
    const end = q.offset + q.length;
    const runs: number[] = [];
    let asked = 0;
    for (let at = q.offset; at < end; ) {
      const { length, flags } = context.status(at, end - at);
      if (runs.length > 0 && runs.at(-1) === flags) runs[runs.length - 2]! += length;
      else if (runs.length === 2 * most) break;
      else runs.push(length, flags);
      at += length;
      if (++asked % 1024 === 0) yield;
    }
    return runs;
  }
}

const NO_BYTES = new Uint8Array(0);
const ZEROES = new Uint8Array(1 << 20);
