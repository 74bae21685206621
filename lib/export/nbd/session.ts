import {
  CMD,
  CMD_PAYLOAD_LEN,
  ERRNO,
  EXTENDED_REQUEST_MAGIC,
  EXTENDED_REQUEST_SIZE,
  getU64,
  MAX_PAYLOAD,
  REQUEST_MAGIC,
  REQUEST_SIZE,
} from '../../block/nbd-protocol.js';
import { ByteQueue } from '../../block/nbd-queue.js';
import { viewOf } from '../../core/struct.js';
import { Commands, type Request } from './commands.js';
import { type Agreement, Handshake, type HandshakeOptions } from './handshake.js';
import { ReplyWriter } from './reply.js';

/**
 * `again`: call `step` again; `wait`: push more bytes first; `starttls`: wrap the stream and go on with a session that is
 * `secure`; `end`: send what was put out and close.
 */
export type Step = 'again' | 'wait' | 'starttls' | 'end';

/** A payload that is too long is read past up to here; a client that sends more is cut off. */
const MAX_SKIPPED = 2 * MAX_PAYLOAD;

/**
 * One client's connection as a state machine: bytes in by `push`, work by `step`, bytes out through `output`.  What it
 * holds is bounded by one request (32 MiB), and grows only with bytes that really came.
 */
export class NbdSession {
  readonly #input = new ByteQueue();
  readonly #handshake: Handshake;
  #agreed: Agreement | undefined;
  #reply!: ReplyWriter;
  #commands!: Commands;
  #running: Generator<void> | undefined;
  /** Bytes of a refused payload still to come. */
  #skip = 0;
  #state: 'open' | 'ended' = 'open';

  constructor(
    private readonly options: HandshakeOptions,
    private readonly output: (bytes: Uint8Array) => void,
  ) {
    this.#handshake = new Handshake(options, output);
  }

  push(bytes: Uint8Array): void {
    if (this.#state === 'open') this.#input.push(bytes);
  }
  /** Bytes that were pushed and not used yet. */
  get buffered(): number {
    return this.#input.length;
  }
  get agreement(): Agreement | undefined {
    return this.#agreed;
  }
  get clientFlags(): number {
    return this.#handshake.clientFlags;
  }

  step(): Step {
    if (this.#state === 'ended') return 'end';
    const s = this.#agreed === undefined ? this.#negotiate() : this.#serve();
    if (s === 'end') this.#state = 'ended';
    return s;
  }

  #negotiate(): Step {
    const s = this.#handshake.step(this.#input);
    if (typeof s === 'string') return s;
    this.#agreed = s;
    this.#reply = new ReplyWriter(s.extended ? 'extended' : s.structured ? 'structured' : 'simple', this.output);
    this.#commands = new Commands(s, this.#reply);
    return 'again';
  }

  #serve(): Step {
    if (this.#running !== undefined) {
      if (this.#running.next().done === true) this.#running = undefined;
      return 'again';
    }
    if (this.#skip > 0) {
      this.#skip -= this.#input.skip(this.#skip);
      return this.#skip > 0 ? 'wait' : 'again';
    }
    const extended = this.#agreed!.extended;
    const size = extended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE;
    const head = this.#input.peek(size);
    if (head === undefined) return 'wait';
    const v = viewOf(head);
    if (v.getUint32(0) !== (extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)) return 'end';
    const flags = v.getUint16(4);
    const type = v.getUint16(6);
    const request: Request = {
      type,
      // The payload's length is the transport's business, not the command's.
      flags: extended && type === CMD.WRITE ? flags & ~CMD_PAYLOAD_LEN : flags,
      cookieHi: v.getUint32(8),
      cookieLo: v.getUint32(12),
      offsetHi: v.getUint32(16),
      offsetLo: v.getUint32(20),
      offset: getU64(v, 16),
      length: extended ? getU64(v, 24) : v.getUint32(24),
    };
    if (type === CMD.DISC) {
      this.#input.skip(size);
      return 'end';
    }
    // With extended headers the flag alone says whether bytes follow; a write without it cannot be told from the next request.
    const hasPayload = extended ? (flags & CMD_PAYLOAD_LEN) !== 0 : type === CMD.WRITE;
    if (this.options.stopping?.() === true) {
      this.#reply.error(request, ERRNO.ESHUTDOWN, 'the server is shutting down', structured(type));
      return 'end';
    }
    if (extended && type === CMD.WRITE && !hasPayload) {
      this.#reply.error(request, ERRNO.EINVAL, 'write without PAYLOAD_LEN', false);
      return 'end';
    }
    if (hasPayload && (type !== CMD.WRITE || request.length > MAX_PAYLOAD)) {
      this.#input.skip(size);
      const why =
        type !== CMD.WRITE ? `command ${type} with a payload` : `write of ${request.length} bytes (at most ${MAX_PAYLOAD})`;
      this.#reply.error(request, ERRNO.EINVAL, why, structured(type));
      if (request.length > MAX_SKIPPED) return 'end';
      this.#skip = request.length;
      return 'again';
    }
    if (hasPayload) {
      if (this.#input.length < size + request.length) return 'wait';
      this.#input.skip(size);
      this.#running = this.#commands.run({ ...request, payload: this.#input.take(request.length)! });
    } else {
      this.#input.skip(size);
      this.#running = this.#commands.run(request);
    }
    return 'again';
  }

  /** Lets go of a request in work. */
  close(): void {
    this.#state = 'ended';
    this.#running?.return(undefined);
    this.#running = undefined;
  }
}

const structured = (type: number): boolean => type === CMD.READ || type === CMD.BLOCK_STATUS;
