import {
  CHUNK,
  CHUNK_DONE,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REPLY_SIZE,
  SIMPLE_REPLY_MAGIC,
  SIMPLE_REPLY_SIZE,
  STRUCTURED_REPLY_MAGIC,
  STRUCTURED_REPLY_SIZE,
  setU64,
} from '../../block/nbd-protocol.js';

/** What identifies a request for its reply. */
export interface RequestId {
  readonly cookieHi: number;
  readonly cookieLo: number;
  /** As it was sent, all 64 bits: extended replies repeat it. */
  readonly offsetHi: number;
  readonly offsetLo: number;
}
export type ReplyStyle = 'simple' | 'structured' | 'extended';

/** Writes the replies of one connection, in the style that was agreed on. */
export class ReplyWriter {
  constructor(
    readonly style: ReplyStyle,
    private readonly output: (bytes: Uint8Array) => void,
  ) {}

  #simple(id: RequestId, errno: number): void {
    const b = new Uint8Array(SIMPLE_REPLY_SIZE);
    const v = new DataView(b.buffer);
    v.setUint32(0, SIMPLE_REPLY_MAGIC);
    v.setUint32(4, errno);
    v.setUint32(8, id.cookieHi);
    v.setUint32(12, id.cookieLo);
    this.output(b);
  }

  /** A chunk's header with `room` bytes of its payload behind it; `more` further payload bytes are sent by the caller. */
  #chunk(id: RequestId, type: number, done: boolean, room: number, more: number): { b: Uint8Array; v: DataView; at: number } {
    const extended = this.style === 'extended';
    const size = extended ? EXTENDED_REPLY_SIZE : STRUCTURED_REPLY_SIZE;
    const b = new Uint8Array(size + room);
    const v = new DataView(b.buffer);
    v.setUint32(0, extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC);
    v.setUint16(4, done ? CHUNK_DONE : 0);
    v.setUint16(6, type);
    v.setUint32(8, id.cookieHi);
    v.setUint32(12, id.cookieLo);
    if (extended) {
      v.setUint32(16, id.offsetHi);
      v.setUint32(20, id.offsetLo);
      setU64(v, 24, room + more);
    } else v.setUint32(16, room + more);
    return { b, v, at: size };
  }

  /** Success without data. */
  done(id: RequestId, structuredOnly: boolean): void {
    if (this.style === 'extended' || (this.style === 'structured' && structuredOnly))
      this.output(this.#chunk(id, CHUNK.NONE, true, 0, 0).b);
    else this.#simple(id, 0);
  }

  /** `structuredOnly`: a reply to READ or BLOCK_STATUS, which must be structured where that was agreed on. */
  error(id: RequestId, errno: number, message: string, structuredOnly: boolean): void {
    if (this.style === 'simple' || (this.style === 'structured' && !structuredOnly)) return this.#simple(id, errno);
    const text = new TextEncoder().encode(message).subarray(0, 1024);
    const c = this.#chunk(id, CHUNK.ERROR, true, 6 + text.length, 0);
    c.v.setUint32(c.at, errno);
    c.v.setUint16(c.at + 4, text.length);
    c.b.set(text, c.at + 6);
    this.output(c.b);
  }

  /** All bytes of a read, where nothing is structured. */
  simpleData(id: RequestId, data: Uint8Array): void {
    this.#simple(id, 0);
    this.output(data);
  }
  data(id: RequestId, offset: number, data: Uint8Array, last: boolean): void {
    const c = this.#chunk(id, CHUNK.OFFSET_DATA, last, 8, data.length);
    setU64(c.v, c.at, offset);
    this.output(c.b);
    this.output(data);
  }
  hole(id: RequestId, offset: number, length: number, last: boolean): void {
    const c = this.#chunk(id, CHUNK.OFFSET_HOLE, last, 12, 0);
    setU64(c.v, c.at, offset);
    c.v.setUint32(c.at + 8, length);
    this.output(c.b);
  }

  /** Runs of one context: length, flags, length, flags, … */
  status(id: RequestId, context: number, runs: readonly number[], last: boolean): void {
    const count = runs.length / 2;
    if (this.style === 'extended') {
      const c = this.#chunk(id, CHUNK.BLOCK_STATUS_EXT, last, 8 + 16 * count, 0);
      c.v.setUint32(c.at, context);
      c.v.setUint32(c.at + 4, count);
      for (let i = 0; i < count; i++) {
        setU64(c.v, c.at + 8 + 16 * i, runs[2 * i]!);
        setU64(c.v, c.at + 16 + 16 * i, runs[2 * i + 1]!);
      }
      this.output(c.b);
      return;
    }
    const c = this.#chunk(id, CHUNK.BLOCK_STATUS, last, 4 + 8 * count, 0);
    c.v.setUint32(c.at, context);
    for (let i = 0; i < count; i++) {
      c.v.setUint32(c.at + 4 + 8 * i, runs[2 * i]!);
      c.v.setUint32(c.at + 8 + 8 * i, runs[2 * i + 1]!);
    }
    this.output(c.b);
  }
}
