import { listExports, type Negotiation, negotiate } from '../../lib/block/nbd-negotiate.js';
import { ByteQueue } from '../../lib/block/nbd-queue.js';
import { ReplyReader } from '../../lib/block/nbd-replies.js';
import { parseNbdUri } from '../../lib/block/nbd-uri.js';
import { GuestError } from '../../lib/core/errors.js';
import type { NbdExport } from '../../lib/export/nbd/index.js';
import { NbdSession } from '../../lib/export/nbd/session.js';
import { pump, SparseMemory } from '../export/loop.js';
import { numbers } from './bytes.js';

type Random = (below: number) => number;
const SIZE = 256 << 10;

const be = (bytes: number, value: number | bigint): Buffer => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(value));
  return b.subarray(8 - bytes);
};
const text = (s: string) => Buffer.concat([be(4, Buffer.byteLength(s)), Buffer.from(s)]);
const option = (n: number, data: Uint8Array = new Uint8Array(0)) =>
  Buffer.concat([Buffer.from('IHAVEOPT'), be(4, n), be(4, data.length), data]);

/** What a sane client could send, to be damaged. */
function clientBytes(r: Random): Buffer {
  const style = r(3);
  const go = r(2) === 0;
  const parts = [be(4, 3)];
  if (r(3) === 0) parts.push(option(3), option(6, Buffer.concat([text('disk'), be(2, 2), be(2, 1), be(2, 3)])));
  if (style > 0) parts.push(option(style === 1 ? 8 : 11));
  if (style > 0) parts.push(option(10, Buffer.concat([text('disk'), be(4, 1), text('base:allocation')])));
  parts.push(go ? option(7, Buffer.concat([text('disk'), be(2, 1), be(2, 3)])) : option(1, Buffer.from('disk')));
  for (let i = r(12); i > 0; i--) {
    const type = r(8);
    const length = type === 3 ? 0 : r(20_000);
    const offset = type === 3 ? 0 : r(SIZE);
    parts.push(be(4, style === 2 ? 0x21e41c71 : 0x25609513));
    parts.push(be(2, style === 2 && type === 1 ? 32 : r(4) === 0 ? r(64) : 0), be(2, type), be(8, r(1000)), be(8, offset));
    parts.push(be(style === 2 ? 8 : 4, length));
    if (type === 1) parts.push(Buffer.alloc(length, r(256)));
  }
  return Buffer.concat(parts);
}

function damage(b: Buffer, r: Random): Buffer {
  for (let k = r(5); k > 0 && b.length >= 8; k--) {
    const at = r(b.length - 7);
    const how = r(5);
    if (how === 0) b.writeUInt32BE([0, 1, 0x7fffffff, 0xffffffff, r(65536), 32 << 20][r(6)]!, at);
    else if (how === 1) b.writeBigUInt64BE([0n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 53n][r(4)]!, at);
    else if (how === 2) b = Buffer.concat([b.subarray(0, at), b.subarray(at + r(9))]);
    else b[at] = r(256);
  }
  return b;
}

/** A hostile client: the session must end or wait, never throw, never hold more than was sent. */
function client(r: Random): void {
  const source = new SparseMemory(SIZE);
  source.bytes.fill(1, 1000, 9000);
  const e: NbdExport = {
    name: 'disk',
    description: 'about it',
    source,
    readOnly: r(4) === 0,
    fastZero: r(2) === 0,
    contexts: [
      { name: 'base:allocation', status: (at, n) => ({ length: source.map(at, n).length, flags: 0 }) },
      { name: 'qemu:allocation-depth', status: (_, n) => ({ length: n, flags: 1 }) },
    ],
  };
  let said = 0;
  const session = new NbdSession({ exports: [e], tls: r(5) === 0 ? 'require' : 'none' }, (b) => {
    said += b.length;
  });
  const bytes = damage(clientBytes(r), r);
  for (let at = 0; at < bytes.length; ) {
    const n = 1 + r(r(2) === 0 ? 40 : 5000);
    session.push(bytes.subarray(at, at + n));
    at += n;
    const s = pump(session);
    if (s === 'starttls') return;
    if (session.buffered > bytes.length) throw new Error('the session holds more than was sent');
  }
  if (said > 16 << 20) throw new Error(`${said} bytes were said to a client of ${bytes.length}`);
}

/** A hostile server: the client's reading ends in its result or a GuestError. */
function handshake(r: Random): void {
  const from = new ByteQueue();
  // A true conversation is recorded first, and damaged.
  const source = new SparseMemory(SIZE);
  const e: NbdExport = { name: 'disk', description: 'x', source, readOnly: false, contexts: [] };
  const make = (): Negotiation<unknown> =>
    r(2) === 0 ? negotiate({ export: r(3) === 0 ? 'other' : 'disk', tls: false }) : listExports({ tls: false });
  const recorded: Uint8Array[] = [];
  const session = new NbdSession({ exports: [e] }, (b) => {
    recorded.push(b);
    from.push(b);
  });
  guarded(() =>
    drive(
      make(),
      from,
      (b) => session.push(b),
      () => void pump(session),
    ),
  );
  const bad = new ByteQueue();
  bad.push(damage(Buffer.concat(recorded), r));
  guarded(() =>
    drive(
      make(),
      bad,
      () => {},
      () => {},
    ),
  );
}

function drive(n: Negotiation<unknown>, from: ByteQueue, send: (b: Uint8Array) => void, more: () => void): void {
  let step = n.next();
  for (let steps = 0; step.done !== true; steps++) {
    if (steps > 100_000) throw new Error('the handshake does not end');
    const wish = step.value;
    if (wish === 'starttls') return;
    if ('send' in wish) {
      send(wish.send);
      step = n.next(new Uint8Array(0));
    } else {
      if (wish.need > 1 << 20) throw new Error(`${wish.need} bytes are waited for`);
      let b = from.take(wish.need);
      if (b === undefined) {
        more();
        b = from.take(wish.need);
      }
      if (b === undefined) return;
      step = n.next(b);
    }
  }
}

/** Replies, true and damaged, to requests that are out. */
function replies(r: Random): void {
  const style = [
    { structured: false, extended: false },
    { structured: true, extended: false },
    { structured: true, extended: true },
  ][r(3)]!;
  const reader = new ReplyReader(style);
  const count = 1 + r(6);
  let ended = 0;
  const parts: Buffer[] = [];
  const chunk = (type: number, done: boolean, cookie: number, body: Buffer) =>
    style.extended
      ? Buffer.concat([be(4, 0x6e8a278c), be(2, done ? 1 : 0), be(2, type), be(8, cookie), be(8, 0), be(8, body.length), body])
      : Buffer.concat([be(4, 0x668e33ef), be(2, done ? 1 : 0), be(2, type), be(8, cookie), be(4, body.length), body]);
  for (let c = 1; c <= count; c++) {
    // Without structured replies nobody asks for block status.
    const kind = (['read', 'other', 'status'] as const)[r(style.structured ? 3 : 2)]!;
    const errno = r(4) === 0 ? 5 : 0;
    const length = 1 + r(3000);
    reader.expect(c, {
      kind,
      offset: 4096,
      length,
      into: new Uint8Array(length),
      runs: [],
      context: 1,
      done: () => ended++,
    });
    if (!style.structured)
      parts.push(be(4, 0x67446698), be(4, errno), be(8, c), Buffer.alloc(kind === 'read' && errno === 0 ? length : 0));
    else if (kind === 'read') {
      const half = r(length);
      if (half > 0) parts.push(chunk(1, false, c, Buffer.concat([be(8, 4096), Buffer.alloc(half)])));
      parts.push(chunk(2, true, c, Buffer.concat([be(8, 4096 + half), be(4, length - half)])));
    } else if (kind === 'status')
      parts.push(
        style.extended
          ? chunk(6, true, c, Buffer.concat([be(4, 1), be(4, 2), be(8, 10), be(8, 3), be(8, length), be(8, 0)]))
          : chunk(5, true, c, Buffer.concat([be(4, 1), be(4, 10), be(4, 3), be(4, length), be(4, 0)])),
      );
    else
      parts.push(
        r(3) === 0
          ? chunk(0x8001, true, c, Buffer.concat([be(4, 28), be(2, 4), Buffer.from('full')]))
          : chunk(0, true, c, Buffer.alloc(0)),
      );
  }
  const damaged = r(6) > 0;
  const bytes = damaged ? damage(Buffer.concat(parts), r) : Buffer.concat(parts);
  guarded(() => {
    for (let at = 0; at < bytes.length; ) {
      const n = 1 + r(r(2) === 0 ? 30 : 2000);
      reader.push(bytes.subarray(at, at + n));
      at += n;
    }
  });
  if (!damaged && ended !== count) throw new Error(`${ended} of ${count} true replies were understood`);
  reader.fail(new GuestError('io', 'over'));
  if (ended !== count) throw new Error(`${ended} of ${count} requests ended`);
}

function address(r: Random): void {
  const seeds = [
    'nbd://host:1/x',
    'nbd+unix:///x?socket=/a',
    'nbds://[::1]/a%20b',
    'nbd:unix:/a:exportname=x',
    'nbd:h:10:exportname=y',
  ];
  const b = damage(Buffer.from(`${seeds[r(seeds.length)]!}       `), r);
  guarded(() => void parseNbdUri(b.toString('latin1')));
}

function guarded(body: () => void): void {
  try {
    body();
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'internal') throw e;
  }
}

/** Damaged byte streams of both sides.  Throws on anything but a GuestError, and on one that takes seconds. */
export function fuzz(iterations: number, seed: number): void {
  const r = numbers(seed);
  const bodies = [client, client, handshake, replies, replies, address];
  for (let i = 0; i < iterations; i++) {
    const before = Date.now();
    try {
      bodies[i % bodies.length]!(r);
    } catch (e) {
      throw new Error(`nbd fuzz: iteration ${i}, seed ${seed}`, { cause: e });
    }
    if (Date.now() - before > 4000) throw new Error(`nbd fuzz: iteration ${i}, seed ${seed} took ${Date.now() - before} ms`);
  }
}
