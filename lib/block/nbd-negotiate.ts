import { GuestError } from '../core/errors.js';
import { viewOf } from '../core/struct.js';
import {
  BASE_ALLOCATION,
  FIXED_NEWSTYLE,
  FLAG,
  getU64,
  INFO,
  MAGIC,
  MAX_PAYLOAD,
  MAX_STRING,
  NO_ZEROES,
  OLDSTYLE_MAGIC,
  OPT,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REP,
} from './nbd-protocol.js';

/** What the client's side of a handshake found out. */
export interface NbdExportInfo {
  readonly size: number;
  /** Transmission flags. */
  readonly flags: number;
  readonly description?: string | undefined;
  readonly minimumBlock: number;
  readonly preferredBlock: number;
  readonly maximumBlock: number;
}
export interface Negotiated extends NbdExportInfo {
  readonly structured: boolean;
  readonly extended: boolean;
  /** Id of base:allocation. */
  readonly allocation?: number | undefined;
}

/** What the negotiation asks of whoever moves the bytes: send these, give it so many, or wrap the stream in TLS. */
export type Wish = { readonly send: Uint8Array } | { readonly need: number } | 'starttls';
export type Negotiation<T> = Generator<Wish, T, Uint8Array>;

/** Option replies of real servers are far shorter; a longer one is not waited for. */
const MAX_REPLY = 64 << 10;
/** Replies to one option (LIST tells one export in each). */
const MAX_REPLIES = 10_000;

const bad = (message: string) => new GuestError('corrupt', `NBD handshake: ${message}`);
const encode = (s: string) => new TextEncoder().encode(s);
const decode = (b: Uint8Array) => new TextDecoder().decode(b);

interface Reply {
  readonly type: number;
  readonly data: Uint8Array;
}

function* need(n: number): Negotiation<Uint8Array> {
  return yield { need: n };
}

function* greet(): Negotiation<number> {
  const head = viewOf(yield* need(16));
  if (head.getUint32(0) !== MAGIC.hi || head.getUint32(4) !== MAGIC.lo) throw bad('this is no NBD server');
  const hi = head.getUint32(8);
  const lo = head.getUint32(12);
  if (hi === OLDSTYLE_MAGIC.hi && lo === OLDSTYLE_MAGIC.lo)
    throw new GuestError('unsupported', 'the server speaks the oldstyle NBD protocol, which is not supported');
  if (hi !== OPTION_MAGIC.hi || lo !== OPTION_MAGIC.lo) throw bad('this is no NBD server');
  const flags = viewOf(yield* need(2)).getUint16(0) & (FIXED_NEWSTYLE | NO_ZEROES);
  const answer = new Uint8Array(4);
  viewOf(answer).setUint32(0, flags);
  yield { send: answer };
  return flags;
}

function optionOf(option: number, data: Uint8Array): Uint8Array {
  const b = new Uint8Array(16 + data.length);
  const v = new DataView(b.buffer);
  v.setUint32(0, OPTION_MAGIC.hi);
  v.setUint32(4, OPTION_MAGIC.lo);
  v.setUint32(8, option);
  v.setUint32(12, data.length);
  b.set(data, 16);
  return b;
}

/** Sends an option and takes its replies, up to the one that ends them. */
function* ask(option: number, data: Uint8Array = new Uint8Array(0)): Negotiation<{ end: Reply; replies: Reply[] }> {
  yield { send: optionOf(option, data) };
  const replies: Reply[] = [];
  for (;;) {
    const head = yield* need(20);
    const v = viewOf(head);
    if (v.getUint32(0) !== OPTION_REPLY_MAGIC.hi || v.getUint32(4) !== OPTION_REPLY_MAGIC.lo) throw bad('bad reply magic');
    if (v.getUint32(8) !== option) throw bad(`a reply to option ${v.getUint32(8)} came for option ${option}`);
    const type = v.getUint32(12);
    const length = v.getUint32(16);
    if (length > MAX_REPLY) throw bad(`option reply of ${length} bytes (at most ${MAX_REPLY})`);
    const reply = { type, data: length === 0 ? new Uint8Array(0) : (yield* need(length)).slice() };
    if (type === REP.ACK || type >= REP.ERR_UNSUP - 1) return { end: reply, replies };
    if (replies.length >= MAX_REPLIES) throw bad(`more than ${MAX_REPLIES} replies to option ${option}`);
    replies.push(reply);
  }
}

const named = (name: string, more: number): { b: Uint8Array; v: DataView; at: number } => {
  const n = encode(name);
  const b = new Uint8Array(4 + n.length + more);
  const v = new DataView(b.buffer);
  v.setUint32(0, n.length);
  b.set(n, 4);
  return { b, v, at: 4 + n.length };
};

/** TLS, structured replies, extended headers: what is asked for before an export is named. */
function* prepare(tls: boolean): Negotiation<{ fixed: boolean; zeroes: boolean; structured: boolean; extended: boolean }> {
  const flags = yield* greet();
  const fixed = (flags & FIXED_NEWSTYLE) !== 0;
  const zeroes = (flags & NO_ZEROES) === 0;
  if (tls) {
    if (!fixed) throw new GuestError('unsupported', 'the server cannot do TLS');
    const { end } = yield* ask(OPT.STARTTLS);
    if (end.type !== REP.ACK)
      throw new GuestError('denied', `the server does not offer TLS${said(end)} (use nbd:// without the s)`);
    yield 'starttls';
  }
  if (!fixed) return { fixed, zeroes, structured: false, extended: false };
  const first = (yield* ask(OPT.EXTENDED_HEADERS)).end;
  if (first.type === REP.ERR_TLS_REQD) throw tlsRequired();
  const extended = first.type === REP.ACK;
  const structured = extended || (yield* ask(OPT.STRUCTURED_REPLY)).end.type === REP.ACK;
  return { fixed, zeroes, structured, extended };
}

const tlsRequired = () => new GuestError('denied', 'the server requires TLS (use nbds://)');
const said = (r: Reply) => (r.data.length === 0 ? '' : `: ${printable(decode(r.data.subarray(0, MAX_STRING)))}`);
/** What a server says is shown on a terminal. */
const printable = (s: string) => s.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');

/** Everything up to the transmission phase. */
export function* negotiate(o: { readonly export: string; readonly tls: boolean }): Negotiation<Negotiated> {
  const { fixed, zeroes, structured, extended } = yield* prepare(o.tls);
  if (!fixed) return yield* exportName(o.export, zeroes, false);
  let allocation: number | undefined;
  if (structured) {
    const query = encode(BASE_ALLOCATION);
    const q = named(o.export, 8 + query.length);
    q.v.setUint32(q.at, 1);
    q.v.setUint32(q.at + 4, query.length);
    q.b.set(query, q.at + 8);
    const { end, replies } = yield* ask(OPT.SET_META_CONTEXT, q.b);
    if (end.type === REP.ACK)
      for (const r of replies)
        if (r.type === REP.META_CONTEXT && r.data.length >= 4 && decode(r.data.subarray(4)) === BASE_ALLOCATION)
          allocation = viewOf(r.data).getUint32(0);
  }
  const g = named(o.export, 4);
  g.v.setUint16(g.at, 1);
  g.v.setUint16(g.at + 2, INFO.BLOCK_SIZE);
  const { end, replies } = yield* ask(OPT.GO, g.b);
  if (end.type === REP.ERR_UNSUP) return yield* exportName(o.export, zeroes, structured);
  if (end.type === REP.ERR_UNKNOWN) throw yield* unknownExport(o.export, end);
  refuse(end, `export "${o.export}"`);
  return { ...exportInfo(replies), structured, extended, allocation };
}

function refuse(end: Reply, what: string): void {
  if (end.type === REP.ACK) return;
  if (end.type === REP.ERR_TLS_REQD) throw tlsRequired();
  if (end.type === REP.ERR_POLICY) throw new GuestError('denied', `${what}: the server refuses${said(end)}`);
  if (end.type === REP.ERR_UNKNOWN) throw new GuestError('not-found', `${what}: the server does not have it${said(end)}`);
  throw new GuestError('io', `${what}: the server answered with error 0x${end.type.toString(16)}${said(end)}`);
}

/** An export that is not there: says which ones are, when the server tells. */
function* unknownExport(name: string, end: Reply): Negotiation<GuestError> {
  let known = '';
  const list = yield* ask(OPT.LIST);
  if (list.end.type === REP.ACK) {
    const names = list.replies.flatMap((r) => nameOf(r)?.name ?? []);
    if (names.length > 0)
      known = ` (there are: ${names
        .slice(0, 20)
        .map((n) => `"${n}"`)
        .join(', ')})`;
  }
  yield { send: optionOf(OPT.ABORT, new Uint8Array(0)) };
  return new GuestError('not-found', `the server has no export "${name}"${known === '' ? said(end) : known}`);
}

function nameOf(r: Reply): { name: string; description: string } | undefined {
  if (r.type !== REP.SERVER || r.data.length < 4) return undefined;
  const n = viewOf(r.data).getUint32(0);
  if (n > r.data.length - 4) throw bad('an export name is longer than its reply');
  return { name: printable(decode(r.data.subarray(4, 4 + n))), description: printable(decode(r.data.subarray(4 + n))) };
}

function exportInfo(replies: readonly Reply[]): NbdExportInfo {
  let size: number | undefined;
  let flags = 0;
  let description: string | undefined;
  let [minimumBlock, preferredBlock, maximumBlock] = [1, 4096, MAX_PAYLOAD];
  for (const r of replies) {
    if (r.type !== REP.INFO || r.data.length < 2) continue;
    const v = viewOf(r.data);
    const kind = v.getUint16(0);
    if (kind === INFO.EXPORT) {
      if (r.data.length !== 12) throw bad(`export information of ${r.data.length} bytes (expected 12)`);
      size = checkSize(getU64(v, 2));
      flags = v.getUint16(10);
    } else if (kind === INFO.DESCRIPTION) description = printable(decode(r.data.subarray(2)));
    else if (kind === INFO.BLOCK_SIZE) {
      if (r.data.length !== 14) throw bad(`block sizes of ${r.data.length} bytes (expected 14)`);
      minimumBlock = v.getUint32(2);
      preferredBlock = v.getUint32(6);
      maximumBlock = Math.min(v.getUint32(10), MAX_PAYLOAD);
      if (
        minimumBlock === 0 ||
        minimumBlock > 65536 ||
        (minimumBlock & (minimumBlock - 1)) !== 0 ||
        maximumBlock < Math.max(minimumBlock, 4096)
      )
        throw bad(`block sizes ${minimumBlock} (minimum) and ${maximumBlock} (maximum) make no sense`);
    }
  }
  if (size === undefined) throw bad('the server did not tell the size of the export');
  return { size, flags, description, minimumBlock, preferredBlock, maximumBlock };
}

function checkSize(size: number): number {
  if (!Number.isSafeInteger(size)) throw bad(`export of ${size} bytes`);
  return size;
}

/** The older way, without any error but a closed connection. */
function* exportName(name: string, zeroes: boolean, structured: boolean): Negotiation<Negotiated> {
  yield { send: optionOf(OPT.EXPORT_NAME, encode(name)) };
  const b = yield* need(zeroes ? 134 : 10);
  const v = viewOf(b);
  return {
    size: checkSize(getU64(v, 0)),
    flags: v.getUint16(8) | FLAG.HAS_FLAGS,
    minimumBlock: 1,
    preferredBlock: 4096,
    maximumBlock: MAX_PAYLOAD,
    structured,
    extended: false,
  };
}

export interface ListedExport extends Partial<NbdExportInfo> {
  readonly name: string;
  readonly contexts: readonly string[];
  /** Why nothing more is known. */
  readonly problem?: string;
}

/** All exports of a server, each with what it tells of itself. */
export function* listExports(o: { readonly tls: boolean }): Negotiation<readonly ListedExport[]> {
  const { fixed, structured } = yield* prepare(o.tls);
  if (!fixed) throw new GuestError('unsupported', 'the server cannot list its exports (it is not fixed newstyle)');
  const { end, replies } = yield* ask(OPT.LIST);
  refuse(end, 'list of exports');
  const out: ListedExport[] = [];
  for (const r of replies) {
    const e = nameOf(r);
    if (e === undefined) continue;
    const g = named(e.name, 2 + 3 * 2);
    g.v.setUint16(g.at, 3);
    for (const [i, kind] of [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE].entries()) g.v.setUint16(g.at + 2 + 2 * i, kind);
    const info = yield* ask(OPT.INFO, g.b);
    if (info.end.type !== REP.ACK) {
      out.push({ name: e.name, description: e.description, contexts: [], problem: `no information${said(info.end)}` });
      continue;
    }
    const contexts: string[] = [];
    if (structured) {
      const q = named(e.name, 4);
      const c = yield* ask(OPT.LIST_META_CONTEXT, q.b);
      if (c.end.type === REP.ACK)
        for (const x of c.replies)
          if (x.type === REP.META_CONTEXT && x.data.length >= 4) contexts.push(printable(decode(x.data.subarray(4))));
    }
    const found = exportInfo(info.replies);
    out.push({ name: e.name, ...found, description: found.description ?? e.description, contexts });
  }
  yield { send: optionOf(OPT.ABORT, new Uint8Array(0)) };
  return out;
}
