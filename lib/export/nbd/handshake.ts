import {
  FIXED_NEWSTYLE,
  FLAG,
  INFO,
  MAGIC,
  MAX_PAYLOAD,
  MAX_STRING,
  NO_ZEROES,
  OPT,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REP,
  setU64,
} from '../../block/nbd-protocol.js';
import type { ByteQueue } from '../../block/nbd-queue.js';
import { viewOf } from '../../core/struct.js';
import type { MetaContext, NbdExport } from './export.js';

export interface HandshakeOptions {
  readonly exports: readonly NbdExport[];
  /** `offer`: who wants it gets it; `require`: nothing is told to a client before it. */
  readonly tls?: 'none' | 'offer' | 'require';
  /** The bytes come through TLS already. */
  readonly secure?: boolean;
  /** What the client said before TLS began. */
  readonly clientFlags?: number;
  /** The server is going down. */
  readonly stopping?: () => boolean;
}

/** What both sides agreed on. */
export interface Agreement {
  readonly export: NbdExport;
  readonly structured: boolean;
  readonly extended: boolean;
  /** Contexts by id. */
  readonly contexts: ReadonlyMap<number, MetaContext>;
}

export type HandshakeStep = 'again' | 'wait' | 'end' | 'starttls' | Agreement;

/** Option data that any real client sends is far below this. */
const MAX_OPTION = 64 << 10;
/** Longer still is no client at all: the connection ends. */
const MAX_SKIPPED = 16 << 20;
/** Options of one handshake; a client that goes on asking is sent away. */
const MAX_OPTIONS = 1024;

const utf8 = new TextDecoder('utf-8', { fatal: true });
const encode = (s: string) => new TextEncoder().encode(s);

/** The export's transmission flags. */
export function flagsOf(e: NbdExport, structured: boolean): number {
  let flags: number = FLAG.HAS_FLAGS | FLAG.SEND_FLUSH | FLAG.SEND_FUA | FLAG.SEND_CACHE;
  if (e.readOnly) flags |= FLAG.READ_ONLY;
  else flags |= FLAG.SEND_TRIM | FLAG.SEND_WRITE_ZEROES | FLAG.SEND_FAST_ZERO;
  if (structured) flags |= FLAG.SEND_DF;
  if (e.multiConn) flags |= FLAG.CAN_MULTI_CONN;
  return flags;
}

/** The server's side of fixed newstyle negotiation: bytes in, replies out, no sockets. */
export class Handshake {
  #greeted = false;
  #clientFlags: number | undefined;
  #structured = false;
  #extended = false;
  #options = 0;
  #skip = 0;
  #chosen: { readonly name: string; readonly contexts: ReadonlyMap<number, MetaContext> } | undefined;

  constructor(
    private readonly options: HandshakeOptions,
    private readonly output: (bytes: Uint8Array) => void,
  ) {
    // After STARTTLS the client goes on with options at once: nothing is greeted twice.
    if (options.secure === true) {
      this.#greeted = true;
      this.#clientFlags = options.clientFlags ?? FIXED_NEWSTYLE | NO_ZEROES;
    }
  }

  get clientFlags(): number {
    return this.#clientFlags ?? 0;
  }

  step(input: ByteQueue): HandshakeStep {
    if (!this.#greeted) {
      this.#greeted = true;
      const b = new Uint8Array(18);
      const v = new DataView(b.buffer);
      v.setUint32(0, MAGIC.hi);
      v.setUint32(4, MAGIC.lo);
      v.setUint32(8, OPTION_MAGIC.hi);
      v.setUint32(12, OPTION_MAGIC.lo);
      v.setUint16(16, FIXED_NEWSTYLE | NO_ZEROES);
      this.output(b);
      return 'again';
    }
    if (this.#skip > 0) {
      this.#skip -= input.skip(this.#skip);
      return this.#skip > 0 ? 'wait' : 'again';
    }
    if (this.#clientFlags === undefined) {
      const b = input.take(4);
      if (b === undefined) return 'wait';
      const flags = viewOf(b).getUint32(0);
      // Bits that we did not offer: the client speaks another protocol.
      if ((flags & ~(FIXED_NEWSTYLE | NO_ZEROES)) !== 0) return 'end';
      this.#clientFlags = flags;
      return 'again';
    }
    const head = input.peek(16);
    if (head === undefined) return 'wait';
    const v = viewOf(head);
    if (v.getUint32(0) !== OPTION_MAGIC.hi || v.getUint32(4) !== OPTION_MAGIC.lo) return 'end';
    const option = v.getUint32(8);
    const length = v.getUint32(12);
    if (length > MAX_OPTION) {
      input.skip(16);
      if (option === OPT.EXPORT_NAME || ++this.#options > MAX_OPTIONS) return 'end';
      this.#error(option, REP.ERR_TOO_BIG, `option data of ${length} bytes (at most ${MAX_OPTION})`);
      if (length > MAX_SKIPPED) return 'end';
      this.#skip = length;
      return 'again';
    }
    const whole = input.take(16 + length);
    if (whole === undefined) return 'wait';
    if (++this.#options > MAX_OPTIONS) return 'end';
    return this.#option(option, whole.subarray(16), input);
  }

  #option(option: number, data: Uint8Array, input: ByteQueue): HandshakeStep {
    const fixed = (this.#clientFlags! & FIXED_NEWSTYLE) !== 0;
    if (!fixed && option !== OPT.EXPORT_NAME) return 'end';
    if (this.options.stopping?.() === true && option !== OPT.ABORT) {
      if (option !== OPT.EXPORT_NAME) this.#error(option, REP.ERR_SHUTDOWN, 'the server is shutting down');
      return 'end';
    }
    const tls = this.options.secure === true ? 'none' : (this.options.tls ?? 'none');
    if (tls === 'require' && option !== OPT.STARTTLS && option !== OPT.ABORT) {
      if (option === OPT.EXPORT_NAME) return 'end';
      return this.#error(option, REP.ERR_TLS_REQD, 'this server requires TLS');
    }
    switch (option) {
      case OPT.EXPORT_NAME:
        return this.#exportName(data);
      case OPT.ABORT:
        this.#reply(option, REP.ACK);
        return 'end';
      case OPT.STARTTLS:
        if (data.length > 0) return this.#notEmpty(option);
        if (this.options.secure === true) return this.#error(option, REP.ERR_INVALID, 'TLS is there already');
        if (tls === 'none') return this.#error(option, REP.ERR_POLICY, 'TLS is not configured');
        // Clear text behind the request would be taken for text that came through TLS.
        if (input.length > 0) return 'end';
        this.#reply(option, REP.ACK);
        return 'starttls';
      case OPT.LIST:
        return this.#list(option, data);
      case OPT.INFO:
      case OPT.GO:
        return this.#info(option, data);
      case OPT.STRUCTURED_REPLY:
        if (data.length > 0) return this.#notEmpty(option);
        if (this.#extended) return this.#error(option, REP.ERR_EXT_HEADER_REQD, 'extended headers were asked for already');
        if (this.#structured) return this.#error(option, REP.ERR_INVALID, 'structured replies were asked for already');
        this.#structured = true;
        return this.#reply(option, REP.ACK);
      case OPT.EXTENDED_HEADERS:
        if (data.length > 0) return this.#notEmpty(option);
        if (this.#extended) return this.#error(option, REP.ERR_INVALID, 'extended headers were asked for already');
        this.#extended = true;
        this.#structured = true;
        return this.#reply(option, REP.ACK);
      case OPT.LIST_META_CONTEXT:
      case OPT.SET_META_CONTEXT:
        return this.#metaContext(option, data);
      default:
        return this.#error(option, REP.ERR_UNSUP, `option ${option} is not supported`);
    }
  }

  #reply(option: number, type: number, data: Uint8Array = EMPTY): 'again' {
    const b = new Uint8Array(20 + data.length);
    const v = new DataView(b.buffer);
    v.setUint32(0, OPTION_REPLY_MAGIC.hi);
    v.setUint32(4, OPTION_REPLY_MAGIC.lo);
    v.setUint32(8, option);
    v.setUint32(12, type);
    v.setUint32(16, data.length);
    b.set(data, 20);
    this.output(b);
    return 'again';
  }
  #error(option: number, type: number, message: string): 'again' {
    return this.#reply(option, type, encode(message));
  }
  #notEmpty(option: number): 'again' {
    return this.#error(option, REP.ERR_INVALID, 'this option takes no data');
  }

  #find(name: string): NbdExport | undefined {
    const { exports } = this.options;
    // The empty name asks for the default export: the only one, or the one that has it.
    return exports.find((e) => e.name === name) ?? (name === '' && exports.length === 1 ? exports[0] : undefined);
  }

  #exportName(data: Uint8Array): HandshakeStep {
    const name = text(data);
    const found = name === undefined ? undefined : this.#find(name);
    // The option has no error reply: closing is the answer.
    if (found === undefined) return 'end';
    const b = new Uint8Array((this.#clientFlags! & NO_ZEROES) !== 0 ? 10 : 134);
    const v = new DataView(b.buffer);
    setU64(v, 0, found.source.size);
    v.setUint16(8, flagsOf(found, this.#structured));
    this.output(b);
    return this.#agree(found, name!);
  }

  #agree(found: NbdExport, name: string): Agreement {
    return {
      export: found,
      structured: this.#structured,
      extended: this.#extended,
      contexts: this.#chosen?.name === name ? this.#chosen.contexts : new Map(),
    };
  }

  #list(option: number, data: Uint8Array): 'again' {
    if (data.length > 0) return this.#notEmpty(option);
    for (const e of this.options.exports) {
      const name = encode(e.name);
      const about = encode(e.description ?? '').subarray(0, MAX_STRING);
      const b = new Uint8Array(4 + name.length + about.length);
      new DataView(b.buffer).setUint32(0, name.length);
      b.set(name, 4);
      b.set(about, 4 + name.length);
      this.#reply(option, REP.SERVER, b);
    }
    return this.#reply(option, REP.ACK);
  }

  #info(option: number, data: Uint8Array): HandshakeStep {
    const v = viewOf(data);
    const nameLength = data.length < 6 ? -1 : v.getUint32(0);
    if (nameLength < 0 || nameLength > data.length - 6)
      return this.#error(option, REP.ERR_INVALID, 'the export name is longer than the option');
    const count = v.getUint16(4 + nameLength);
    if (data.length !== 6 + nameLength + 2 * count)
      return this.#error(option, REP.ERR_INVALID, `${count} information requests do not fill the option`);
    if (nameLength > MAX_STRING) return this.#error(option, REP.ERR_TOO_BIG, `export name longer than ${MAX_STRING} bytes`);
    const name = text(data.subarray(4, 4 + nameLength));
    const found = name === undefined ? undefined : this.#find(name);
    if (found === undefined) return this.#error(option, REP.ERR_UNKNOWN, `export "${name ?? '?'}" is not here`);
    const minimum = found.minimumBlock ?? 1;
    const asked = new Set<number>();
    for (let i = 0; i < count; i++) asked.add(viewOf(data).getUint16(6 + nameLength + 2 * i));
    if (option === OPT.GO && minimum > 1 && !asked.has(INFO.BLOCK_SIZE))
      return this.#error(option, REP.ERR_BLOCK_SIZE_REQD, `requests must be aligned to ${minimum} bytes`);
    const info = (kind: number, size: number, fill: (b: Uint8Array, v: DataView) => void) => {
      const b = new Uint8Array(2 + size);
      const d = new DataView(b.buffer);
      d.setUint16(0, kind);
      fill(b, d);
      this.#reply(option, REP.INFO, b);
    };
    info(INFO.EXPORT, 10, (_, d) => {
      setU64(d, 2, found.source.size);
      d.setUint16(10, flagsOf(found, this.#structured));
    });
    if (asked.has(INFO.NAME)) {
      const b = encode(found.name);
      info(INFO.NAME, b.length, (to) => to.set(b, 2));
    }
    if (asked.has(INFO.DESCRIPTION) && found.description !== undefined) {
      const b = encode(found.description).subarray(0, MAX_STRING);
      info(INFO.DESCRIPTION, b.length, (to) => to.set(b, 2));
    }
    info(INFO.BLOCK_SIZE, 12, (_, d) => {
      d.setUint32(2, minimum);
      d.setUint32(6, Math.max(minimum, found.preferredBlock ?? 4096));
      d.setUint32(10, MAX_PAYLOAD);
    });
    this.#reply(option, REP.ACK);
    return option === OPT.GO ? this.#agree(found, name!) : 'again';
  }

  #metaContext(option: number, data: Uint8Array): 'again' {
    const set = option === OPT.SET_META_CONTEXT;
    // Whatever comes of this one, what was chosen before no longer holds.
    if (set) this.#chosen = undefined;
    const bad = (why: string) => this.#error(option, REP.ERR_INVALID, why);
    if (!this.#structured) return bad('structured replies must be asked for first');
    const v = viewOf(data);
    const nameLength = data.length < 8 ? -1 : v.getUint32(0);
    if (nameLength < 0 || nameLength > data.length - 8) return bad('the export name is longer than the option');
    const name = text(data.subarray(4, 4 + nameLength));
    let at = 4 + nameLength;
    const count = v.getUint32(at);
    at += 4;
    const queries: (string | undefined)[] = [];
    for (let i = 0; i < count; i++) {
      const n = at + 4 > data.length ? -1 : v.getUint32(at);
      if (n < 0 || n > data.length - at - 4) return bad(`query ${i + 1} of ${count} is longer than the option`);
      queries.push(n > MAX_STRING ? undefined : text(data.subarray(at + 4, at + 4 + n)));
      at += 4 + n;
    }
    if (at !== data.length) return bad(`${data.length - at} bytes behind the last query`);
    const found = name === undefined ? undefined : this.#find(name);
    if (found === undefined) return this.#error(option, REP.ERR_UNKNOWN, `export "${name ?? '?'}" is not here`);
    const chosen = new Map<number, MetaContext>();
    for (const [i, c] of found.contexts.entries()) {
      const wanted = set
        ? queries.includes(c.name)
        : queries.length === 0 ||
          queries.some((q) => q !== undefined && (q === c.name || (q.endsWith(':') && c.name.startsWith(q))));
      if (!wanted) continue;
      const id = i + 1;
      chosen.set(id, c);
      const b = encode(c.name);
      const reply = new Uint8Array(4 + b.length);
      new DataView(reply.buffer).setUint32(0, set ? id : 0);
      reply.set(b, 4);
      this.#reply(option, REP.META_CONTEXT, reply);
    }
    if (set) this.#chosen = { name: name!, contexts: chosen };
    return this.#reply(option, REP.ACK);
  }
}

const EMPTY = new Uint8Array(0);

function text(b: Uint8Array): string | undefined {
  if (b.length > MAX_STRING) return undefined;
  try {
    return utf8.decode(b);
  } catch {
    return undefined;
  }
}
