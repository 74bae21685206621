import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Negotiated, negotiate } from '../../lib/block/nbd-negotiate.js';
import { ByteQueue } from '../../lib/block/nbd-queue.js';
import { ReplyReader } from '../../lib/block/nbd-replies.js';
import { GuestError } from '../../lib/core/errors.js';
import type { MetaContext, NbdExport } from '../../lib/export/nbd/index.js';
import { NbdSession } from '../../lib/export/nbd/session.js';
import { converse, pump, SparseMemory } from './loop.js';

// Everything sent and expected here is written out from the protocol's text, not taken from our own constants.
const be = (bytes: number, value: number | bigint): Buffer => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(value));
  return b.subarray(8 - bytes);
};
const option = (n: number, data: Uint8Array = new Uint8Array(0)) =>
  Buffer.concat([Buffer.from('IHAVEOPT'), be(4, n), be(4, data.length), data]);
const text = (s: string) => Buffer.concat([be(4, Buffer.byteLength(s)), Buffer.from(s)]);
const request = (flags: number, type: number, cookie: bigint, offset: number | bigint, length: number, data = Buffer.alloc(0)) =>
  Buffer.concat([be(4, 0x25609513), be(2, flags), be(2, type), be(8, cookie), be(8, offset), be(4, length), data]);

const allocation = (s: SparseMemory): MetaContext => ({
  name: 'base:allocation',
  status: (offset, length) => {
    const run = s.map(offset, length);
    return { length: run.length, flags: run.kind === 'zero' ? 3 : 0 };
  },
});
const exportOf = (source: SparseMemory, more: Partial<NbdExport> = {}): NbdExport => ({
  name: 'disk',
  source,
  readOnly: false,
  contexts: [allocation(source)],
  ...more,
});

/** A session and what it said. */
function start(exports: readonly NbdExport[], more: { tls?: 'offer' | 'require'; stopping?: () => boolean } = {}) {
  const said: Uint8Array[] = [];
  const session = new NbdSession({ exports, ...more }, (b) => said.push(b.slice()));
  return {
    session,
    /** Sends bytes; gives what came back. */
    say(...bytes: Uint8Array[]): Buffer {
      said.length = 0;
      for (const b of bytes) session.push(b);
      this.end = pump(session);
      return Buffer.concat(said);
    },
    end: 'wait' as string,
  };
}
const CLIENT = be(4, 3);
const reply = (n: number, type: number, data: Uint8Array = Buffer.alloc(0)) =>
  Buffer.concat([be(8, 0x3e889045565a9n), be(4, n), be(4, type), be(4, data.length), data]);
const typesOf = (b: Buffer): number[] => {
  const out: number[] = [];
  for (let at = 0; at < b.length; at += 20 + b.readUInt32BE(at + 16)) out.push(b.readUInt32BE(at + 12));
  return out;
};
const ERR = 0x80000000;

it('greets as fixed newstyle without zeroes, and gives size and flags for EXPORT_NAME', () => {
  const s = start([exportOf(new SparseMemory(1 << 20))]);
  expect(s.say().toString('latin1')).toBe('NBDMAGICIHAVEOPT\0\x03');
  const b = s.say(CLIENT, option(1, Buffer.from('disk')));
  expect(b.length).toBe(10);
  expect(b.readBigUInt64BE(0)).toBe(1n << 20n);
  // has-flags, flush, fua, trim, write-zeroes, cache, fast-zero; not read-only, not DF without structured replies.
  expect(b.readUInt16BE(8)).toBe(0b1100_0110_1101);
});

it('pads EXPORT_NAME with 124 zeroes for a client that wants them', () => {
  const s = start([exportOf(new SparseMemory(512))]);
  expect(s.say(be(4, 1), option(1, Buffer.from('disk'))).length).toBe(18 + 134);
});

it('closes on an unknown EXPORT_NAME, unknown client flags and a bad option magic', () => {
  for (const bytes of [
    Buffer.concat([CLIENT, option(1, Buffer.from('other'))]),
    be(4, 0xff),
    Buffer.concat([CLIENT, Buffer.from('NOTANOPTNOTANOPT')]),
  ]) {
    const s = start([exportOf(new SparseMemory(512))]);
    s.say(bytes);
    expect(s.end).toBe('end');
  }
});

it('lists exports with their descriptions', () => {
  const s = start([exportOf(new SparseMemory(512), { description: 'mine' }), exportOf(new SparseMemory(512), { name: 'b' })]);
  s.say(CLIENT);
  expect(s.say(option(3))).toEqual(
    Buffer.concat([reply(3, 2, Buffer.concat([text('disk'), Buffer.from('mine')])), reply(3, 2, text('b')), reply(3, 1)]),
  );
  expect(typesOf(s.say(option(3, Buffer.from('x'))))).toEqual([ERR + 3]);
});

it('answers INFO and GO, and tells unknown exports and malformed options apart', () => {
  const s = start([exportOf(new SparseMemory(4096), { description: 'mine' })]);
  s.say(CLIENT);
  const ask = (name: Buffer, ...kinds: number[]) => Buffer.concat([name, be(2, kinds.length), ...kinds.map((k) => be(2, k))]);
  const info = s.say(option(6, ask(text('disk'), 1, 2, 3)));
  expect(typesOf(info)).toEqual([3, 3, 3, 3, 1]);
  expect(info.subarray(20, 32)).toEqual(Buffer.concat([be(2, 0), be(8, 4096), be(2, 0b1100_0110_1101)]));
  expect(info.includes(Buffer.concat([be(2, 2), Buffer.from('mine')]))).toBe(true);
  expect(info.includes(Buffer.concat([be(2, 3), be(4, 1), be(4, 4096), be(4, 32 << 20)]))).toBe(true);
  expect(typesOf(s.say(option(6, ask(text('nope')))))).toEqual([ERR + 6]);
  expect(typesOf(s.say(option(6, be(4, 0xffffffff))))).toEqual([ERR + 3]);
  expect(typesOf(s.say(option(6, Buffer.concat([be(4, 1000), Buffer.alloc(10)]))))).toEqual([ERR + 3]);
  expect(typesOf(s.say(option(6, Buffer.concat([ask(text('disk')), Buffer.from('x')]))))).toEqual([ERR + 3]);
  expect(typesOf(s.say(option(99)))).toEqual([ERR + 1]);
  expect(typesOf(s.say(option(7, ask(text(''), 3))))).toEqual([3, 3, 1]);
  expect(s.session.agreement?.export.name).toBe('disk');
});

it('an option longer than any real one is refused and read past; a huge one ends the connection', () => {
  const s = start([exportOf(new SparseMemory(512))]);
  s.say(CLIENT);
  const long = Buffer.concat([Buffer.from('IHAVEOPT'), be(4, 6), be(4, 100_000)]);
  expect(typesOf(s.say(long))).toEqual([ERR + 9]);
  expect(typesOf(s.say(Buffer.alloc(100_000), option(3)))).toEqual([2, 1]);
  s.say(Buffer.concat([Buffer.from('IHAVEOPT'), be(4, 6), be(4, 0xffffffff)]));
  expect(s.end).toBe('end');
});

it('a client that negotiates without end is sent away', () => {
  const s = start([exportOf(new SparseMemory(512))]);
  s.say(CLIENT);
  let asked = 0;
  while (s.end === 'wait' && asked < 5000) {
    s.say(option(3));
    asked++;
  }
  expect(asked).toBeLessThan(1100);
});

it('where TLS is required nothing is told before it; text behind STARTTLS ends the connection', () => {
  const s = start([exportOf(new SparseMemory(512))], { tls: 'require' });
  s.say(CLIENT);
  for (const n of [3, 6, 7, 8, 9, 10, 11]) expect(typesOf(s.say(option(n)))).toEqual([ERR + 5]);
  const t = start([exportOf(new SparseMemory(512))], { tls: 'require' });
  t.say(CLIENT);
  t.say(Buffer.concat([option(5), option(3)]));
  expect(t.end).toBe('end');
  expect(s.say(option(5))).toEqual(reply(5, 1));
  expect(s.end).toBe('starttls');
  const none = start([exportOf(new SparseMemory(512))]);
  none.say(CLIENT);
  expect(typesOf(none.say(option(5)))).toEqual([ERR + 2]);
});

it('contexts chosen for one export do not hold for another', () => {
  const a = new SparseMemory(4096);
  const s = start([exportOf(a), exportOf(new SparseMemory(4096), { name: 'b' })]);
  s.say(CLIENT, option(8));
  const set = s.say(option(10, Buffer.concat([text('disk'), be(4, 1), text('base:allocation')])));
  expect(typesOf(set)).toEqual([4, 1]);
  s.say(option(7, Buffer.concat([text('b'), be(2, 0)])));
  const b = s.say(request(0, 7, 1n, 0, 4096));
  expect(b.readUInt32BE(0)).toBe(0x668e33ef);
  expect(b.readUInt16BE(6)).toBe(0x8001);
  expect(b.readUInt32BE(20)).toBe(22);
});

it('SET_META_CONTEXT needs structured replies; LIST knows namespaces', () => {
  const s = start([exportOf(new SparseMemory(4096))]);
  s.say(CLIENT);
  const query = (...q: string[]) => Buffer.concat([text('disk'), be(4, q.length), ...q.map(text)]);
  expect(typesOf(s.say(option(10, query('base:allocation'))))).toEqual([ERR + 3]);
  s.say(option(8));
  expect(typesOf(s.say(option(9, query())))).toEqual([4, 1]);
  expect(typesOf(s.say(option(9, query('base:'))))).toEqual([4, 1]);
  expect(typesOf(s.say(option(9, query('other:'))))).toEqual([1]);
  expect(typesOf(s.say(option(10, query('base:'))))).toEqual([1]);
  expect(typesOf(s.say(option(10, Buffer.concat([query('x'), Buffer.from('y')]))))).toEqual([ERR + 3]);
  expect(typesOf(s.say(option(10, Buffer.concat([text('disk'), be(4, 0xffffffff)]))))).toEqual([ERR + 3]);
});

/** A session in the transmission phase with simple replies. */
function simple(e: NbdExport, stopping?: () => boolean) {
  const s = start([e], stopping === undefined ? {} : { stopping });
  s.say(CLIENT, option(1, Buffer.from('disk')));
  return s;
}
const answer = (errno: number, cookie: bigint, data = Buffer.alloc(0)) =>
  Buffer.concat([be(4, 0x67446698), be(4, errno), be(8, cookie), data]);

it('reads and writes with simple replies, and maps errors', () => {
  const m = new SparseMemory(8192);
  const s = simple(exportOf(m));
  const cookie = 0xfedcba9876543210n;
  expect(s.say(request(0, 1, cookie, 100, 3, Buffer.from('abc')))).toEqual(answer(0, cookie));
  expect(s.say(request(0, 0, cookie, 99, 5))).toEqual(answer(0, cookie, Buffer.from('\0abc\0')));
  expect(m.flushes).toBe(0);
  expect(s.say(request(1, 1, 2n, 0, 1, Buffer.from('x')))).toEqual(answer(0, 2n));
  expect(m.flushes).toBe(1);
  expect(s.say(request(0, 3, 3n, 0, 0))).toEqual(answer(0, 3n));
  expect(m.flushes).toBe(2);
  expect(s.say(request(0, 0, 4n, 8192, 1))).toEqual(answer(22, 4n));
  expect(s.say(request(0, 0, 4n, 0xffff_ffff_ffff_ffffn, 0xffffffff))).toEqual(answer(22, 4n));
  expect(s.say(request(0, 1, 5n, 8191, 2, Buffer.from('zz')))).toEqual(answer(28, 5n));
  expect(s.say(request(0, 6, 6n, 8000, 400))).toEqual(answer(28, 6n));
  expect(s.say(request(0, 99, 7n, 0, 0))).toEqual(answer(22, 7n));
  expect(s.say(request(0x40, 0, 8n, 0, 1))).toEqual(answer(22, 8n));
  expect(s.say(request(0, 0, 9n, 0, (32 << 20) + 1))).toEqual(answer(22, 9n));
  // Fast zero where zeroing is not known to be fast, and zeroing of 100 bytes without it.
  expect(s.say(request(16, 6, 10n, 0, 200))).toEqual(answer(95, 10n));
  expect(s.say(request(0, 6, 11n, 100, 100))).toEqual(answer(0, 11n));
  expect(m.bytes[100]).toBe(0);
  s.say(request(0, 2, 12n, 0, 0));
  expect(s.end).toBe('end');
});

it('a read-only export refuses every change and reads past what was sent with it', () => {
  const m = new SparseMemory(8192);
  const s = simple(exportOf(m, { readOnly: true }));
  expect(s.say(request(0, 1, 1n, 0, 4, Buffer.from('abcd')), request(0, 4, 2n, 0, 9), request(0, 6, 3n, 0, 9))).toEqual(
    Buffer.concat([answer(1, 1n), answer(1, 2n), answer(1, 3n)]),
  );
  expect(m.bytes.every((b) => b === 0)).toBe(true);
  expect(s.say(request(0, 3, 4n, 0, 0))).toEqual(answer(0, 4n));
});

it('a write that is too long is refused and read past, one without end cuts the client off', () => {
  const s = simple(exportOf(new SparseMemory(8192)));
  const long = (32 << 20) + 1;
  expect(s.say(request(0, 1, 1n, 0, long))).toEqual(answer(22, 1n));
  for (let left = long; left > 0; left -= 1 << 20) s.say(new Uint8Array(Math.min(left, 1 << 20)));
  expect(s.say(request(0, 0, 2n, 0, 1))).toEqual(answer(0, 2n, Buffer.alloc(1)));
  expect(s.say(request(0, 1, 3n, 0, 0xffffffff))).toEqual(answer(22, 3n));
  expect(s.end).toBe('end');
});

it('errors of the disk become the wire’s: no space, refused, anything else', () => {
  const m = new SparseMemory(8192);
  for (const [error, errno] of [
    [new GuestError('no-space', 'full'), 28],
    [new GuestError('io', 'full', { errno: 'ENOSPC' }), 28],
    [new GuestError('denied', 'no'), 1],
    [new GuestError('corrupt', 'damaged'), 5],
    [new RangeError('bug'), 5],
  ] as const) {
    m.write = () => {
      throw error;
    };
    const s = simple(exportOf(m));
    expect(s.say(request(0, 1, 1n, 0, 1, Buffer.from('x')))).toEqual(answer(errno, 1n));
  }
});

it('a server that goes down answers ESHUTDOWN and ends', () => {
  let stopping = false;
  const s = simple(exportOf(new SparseMemory(8192)), () => stopping);
  stopping = true;
  expect(s.say(request(0, 0, 1n, 0, 1))).toEqual(answer(108, 1n));
  expect(s.end).toBe('end');
});

it('zeroing and trimming gigabytes is done in steps, between which others may run', () => {
  const calls: number[] = [];
  const m = new SparseMemory(4096);
  const big = Object.assign(Object.create(m) as SparseMemory, { size: 2 ** 32 }) as SparseMemory;
  big.zero = (_, n) => calls.push(n);
  big.discard = (_, n) => calls.push(n);
  const s = start([exportOf(big)]);
  s.say(CLIENT, option(1, Buffer.from('disk')));
  s.session.push(request(0, 6, 1n, 0, 0xffffffff));
  let steps = 0;
  while (s.session.step() === 'again') steps++;
  expect(steps).toBeGreaterThan(400);
  expect(calls.reduce((a, b) => a + b)).toBe(0xffffffff);
  calls.length = 0;
  expect(s.say(request(0, 4, 2n, 0, 0xffffffff))).toEqual(answer(0, 2n));
  expect(calls.reduce((a, b) => a + b)).toBe(0xffffffff);
});

it('NO_HOLE writes real zeroes', () => {
  const m = new SparseMemory(3 << 20);
  m.bytes.fill(1);
  m.zero = () => expect.unreachable();
  const s = simple(exportOf(m, { fastZero: true }));
  expect(s.say(request(2, 6, 1n, 5, (2 << 20) + 7))).toEqual(answer(0, 1n));
  expect([m.bytes[4], m.bytes[5], m.bytes[(2 << 20) + 11], m.bytes[(2 << 20) + 12]]).toEqual([1, 0, 0, 1]);
});

it('structured reads carry holes, DF keeps a read in one piece', () => {
  const m = new SparseMemory(64 << 10);
  m.bytes.fill(7, 16384, 20480);
  const s = start([exportOf(m)]);
  s.say(CLIENT, option(8), option(1, Buffer.from('disk')));
  const b = s.say(request(0, 0, 1n, 0, 65536));
  const chunks: [number, number, number][] = [];
  for (let at = 0; at < b.length; at += 20 + b.readUInt32BE(at + 16))
    chunks.push([b.readUInt16BE(at + 4), b.readUInt16BE(at + 6), b.readUInt32BE(at + 16)]);
  expect(chunks).toEqual([
    [0, 2, 12],
    [0, 1, 8 + 4096],
    [1, 2, 12],
  ]);
  const whole = s.say(request(4, 0, 2n, 0, 65536));
  expect([whole.readUInt16BE(4), whole.readUInt16BE(6), whole.length]).toEqual([1, 1, 28 + 65536]);
});

it('an extended client that writes without saying that bytes follow is cut off', () => {
  const s = start([exportOf(new SparseMemory(4096))]);
  s.say(CLIENT, option(11), option(1, Buffer.from('disk')));
  const b = s.say(Buffer.concat([be(4, 0x21e41c71), be(2, 0), be(2, 1), be(8, 1), be(8, 0), be(8, 4), Buffer.from('abcd')]));
  expect([b.readUInt32BE(0), b.readUInt16BE(6), b.readUInt32BE(32)]).toEqual([0x6e8a278c, 0x8001, 22]);
  expect(s.end).toBe('end');
});

// ---- random sequences against a model ----

const SIZE = 200_000;
type Op =
  | { op: 'read' | 'zero' | 'trim' | 'status' | 'cache'; offset: number; length: number }
  | { op: 'write'; offset: number; length: number; value: number }
  | { op: 'flush' };
const range = fc.record({ offset: fc.nat(SIZE + 100), length: fc.nat(60_000) });
const ops = fc.array(
  fc.oneof(
    fc.tuple(fc.constantFrom('read', 'read', 'zero', 'trim', 'status', 'cache'), range).map(([op, r]) => ({ op, ...r }) as Op),
    fc.tuple(range, fc.integer({ min: 0, max: 255 })).map(([r, value]): Op => ({ op: 'write', ...r, value })),
    fc.constant<Op>({ op: 'flush' }),
  ),
  { maxLength: 25 },
);

it.each(['simple', 'structured', 'extended'] as const)(
  'random requests, %s replies, cut anywhere: as the model has it',
  (style) => {
    fc.assert(
      fc.property(ops, fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 }), (list, cuts) => {
        const disk = new SparseMemory(SIZE);
        const model = new Uint8Array(SIZE);
        const received = new ByteQueue();
        const session = new NbdSession({ exports: [exportOf(disk)] }, (b) => received.push(b.slice()));
        const info = negotiateAs(style, session, received);
        const replies = new ReplyReader(info);
        const outcomes: { check(error?: GuestError): void }[] = [];
        let done = 0;
        const stream: Uint8Array[] = [];
        for (const [i, o] of list.entries()) {
          const { offset, length } = o.op === 'flush' ? { offset: 0, length: 0 } : o;
          const inside = offset <= SIZE && length <= SIZE - offset;
          const type = { read: 0, write: 1, flush: 3, trim: 4, cache: 5, zero: 6, status: 7 }[o.op];
          const data = o.op === 'write' ? Buffer.alloc(length, o.value) : Buffer.alloc(0);
          if (inside && (o.op === 'write' || o.op === 'zero' || o.op === 'trim'))
            model.fill(o.op === 'write' ? o.value : 0, offset, offset + length);
          const expected = model.slice(offset, offset + length);
          const into = new Uint8Array(length).fill(0xee);
          const runs: number[] = [];
          outcomes.push({
            check(error) {
              done++;
              const fine = inside && !(o.op === 'status' && (info.allocation === undefined || length === 0));
              expect(error === undefined, `${o.op} ${offset}+${length}: ${error?.message}`).toBe(fine);
              if (error !== undefined) return;
              if (o.op === 'read') expect(Buffer.compare(into, expected)).toBe(0);
              if (o.op === 'status') {
                let at = 0;
                for (let k = 0; k < runs.length; k += 2) {
                  // A range that is told to be zero is zero.
                  if (runs[k + 1]! & 2) expect(expected.subarray(at, at + runs[k]!).every((b) => b === 0)).toBe(true);
                  at += runs[k]!;
                }
                expect(at).toBe(length);
              }
            },
          });
          // A read of nothing has no chunk of data to wait for.
          replies.expect(i + 1, {
            kind: o.op === 'read' ? 'read' : o.op === 'status' ? 'status' : 'other',
            offset,
            length,
            into,
            runs,
            context: info.allocation,
            done: (e) => outcomes[i]!.check(e),
          });
          stream.push(
            style === 'extended'
              ? Buffer.concat([
                  be(4, 0x21e41c71),
                  be(2, o.op === 'write' ? 32 : 0),
                  be(2, type),
                  be(8, i + 1),
                  be(8, offset),
                  be(8, length),
                  data,
                ])
              : request(0, type, BigInt(i + 1), offset, length, data),
          );
        }
        const all = Buffer.concat(stream);
        for (let at = 0, k = 0; at < all.length; k++) {
          const n = cuts[k % cuts.length]!;
          session.push(all.subarray(at, at + n));
          at += n;
          expect(pump(session)).toBe('wait');
          const some = received.take(Math.min(received.length, n));
          if (some !== undefined) replies.push(some);
        }
        replies.push(received.take(received.length)!);
        expect(done).toBe(list.length);
        expect(Buffer.compare(disk.bytes, model)).toBe(0);
      }),
      { numRuns: 60 },
    );
  },
);

function negotiateAs(style: 'simple' | 'structured' | 'extended', session: NbdSession, received: ByteQueue): Negotiated {
  if (style === 'extended') {
    const info = converse(negotiate({ export: 'disk', tls: false }), session, received);
    pump(session);
    expect(info.extended).toBe(true);
    return info;
  }
  const context = Buffer.concat([text('disk'), be(4, 1), text('base:allocation')]);
  session.push(Buffer.concat([CLIENT, ...(style === 'structured' ? [option(8), option(10, context)] : [])]));
  session.push(option(1, Buffer.from('disk')));
  pump(session);
  received.skip(received.length);
  return {
    size: SIZE,
    flags: 0,
    minimumBlock: 1,
    preferredBlock: 4096,
    maximumBlock: 32 << 20,
    structured: style === 'structured',
    extended: false,
    ...(style === 'structured' ? { allocation: 1 } : {}),
  };
}
