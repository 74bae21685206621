import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { NbdSource, openNbd, WritableNbdSource } from '../../lib/block/nbd.js';
import { formatNbdUri, parseNbdUri } from '../../lib/block/nbd-uri.js';
import { mapAll, readAt } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import { serve, serveQemu } from '../export/serve.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const dir = temporaryFolder();
let counter = 0;
const path = (name: string) => join(dir, `${counter++}-${name}`);
const MiB = 1 << 20;
const uriOf = (socket: string, name = '') => `nbd+unix:///${name}?socket=${socket}`;

/** 20 MiB and a bit, with data and holes. */
function disk(): { file: string; bytes: Buffer } {
  const file = path('disk.raw');
  const bytes = Buffer.alloc(20 * MiB + 512);
  randomBytes(3 * MiB).copy(bytes, 2 * MiB);
  randomBytes(70_000).copy(bytes, 12 * MiB + 100);
  writeFileSync(file, '');
  truncateSync(file, bytes.length);
  for (const [at, n] of [
    [2 * MiB, 3 * MiB],
    [12 * MiB, 128 << 10],
  ] as const)
    run('dd', [`of=${file}`, 'bs=64k', `seek=${at >> 16}`, 'conv=notrunc', 'status=none'], { input: bytes.subarray(at, at + n) });
  return { file, bytes };
}
function failure(body: () => unknown): GuestError {
  try {
    body();
  } catch (e) {
    if (e instanceof GuestError) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}
async function faulty(socket: string, ...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../export/nbd-peer.mjs'), socket, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  await new Promise((done) => child.stdout.once('data', done));
}

describe('addresses', () => {
  it('reads the forms that QEMU and libnbd use', () => {
    for (const [uri, target] of [
      ['nbd://host', { host: 'host', port: 10809, export: '', tls: false }],
      ['nbd://host:1234/a%20b/c', { host: 'host', port: 1234, export: 'a b/c', tls: false }],
      ['nbd://host//abs', { host: 'host', port: 10809, export: '/abs', tls: false }],
      ['nbds://[::1]:7/x', { host: '::1', port: 7, export: 'x', tls: true }],
      ['nbd:///x', { host: 'localhost', port: 10809, export: 'x', tls: false }],
      ['nbd+unix:///x?socket=/tmp/a%3db', { socket: '/tmp/a=b', export: 'x', tls: false }],
      ['nbds+unix:///?socket=s&tls-certificates=/pki', { socket: 's', export: '', tls: true, tlsCertificates: '/pki' }],
      ['nbd:host:77', { host: 'host', port: 77, export: '', tls: false }],
      ['nbd:host:77:exportname=a:b', { host: 'host', port: 77, export: 'a:b', tls: false }],
      ['nbd:unix:/s:exportname=x', { socket: '/s', export: 'x', tls: false }],
    ] as const)
      expect(parseNbdUri(uri), uri).toEqual(target);
  });
  it('refuses what is none, and says why', () => {
    for (const [uri, message] of [
      ['nbd+unix:///x', /path of the socket is missing/],
      ['nbd+unix://host/x?socket=/s', /a unix socket has no host/],
      ['nbd://h:0/', /port 0 is not 1 to 65535/],
      ['nbd://h:x/', /"h:x" is not HOST/],
      ['nbd://h/%zz', /bad % escape/],
      [`nbd://h/${'x'.repeat(5000)}`, /longer than 4096/],
      ['nbd:nothing', /expected nbd:/],
    ] as const)
      expect(
        failure(() => parseNbdUri(uri)),
        uri,
      ).toMatchObject({ code: 'usage', message: expect.stringMatching(message) as string });
  });
  it('writing and reading an address gives it back', () => {
    const names = fc.string({ maxLength: 30, unit: 'grapheme' });
    fc.assert(
      fc.property(
        names,
        names.filter((s) => s !== ''),
        fc.boolean(),
        fc.integer({ min: 1, max: 65535 }),
        (name, socket, tls, port) => {
          const a = { export: name, socket, tls };
          expect(parseNbdUri(formatNbdUri(a))).toEqual(a);
          const b = { export: name, host: 'host.example', port, tls };
          expect(parseNbdUri(formatNbdUri(b))).toEqual(b);
        },
      ),
    );
  });
});

const SERVERS = {
  'our server': async (file: string, ...args: string[]) =>
    (await serve(['-t', '-e', '0', '-f', 'raw', ...args, '-k', path('s'), file])).uri,
  'qemu-nbd': async (file: string, ...args: string[]) => {
    const socket = path('s');
    await serveQemu(socket, ['-f', 'raw', '-e', '0', '--discard=unmap', ...args, file]);
    return uriOf(socket);
  },
};

describe.each(Object.entries(SERVERS))('a client of %s', (_, start) => {
  const needs = itNeeds('qemu-nbd');

  needs('reads any range, in small pieces and in large ones', async () => {
    const { file, bytes } = disk();
    const s = new NbdSource(await start(file, '-r'));
    expect(s.size).toBe(bytes.length);
    for (const [offset, length] of [
      [0, 0],
      [0, 1],
      [bytes.length - 1, 1],
      [2 * MiB - 3, 7],
      [262143, 2],
      [2 * MiB + 5, 9 * MiB],
      [0, bytes.length],
      [4 * MiB, 4 * MiB],
    ] as const)
      expect(Buffer.compare(readAt(s, offset, length), bytes.subarray(offset, offset + length)), `${offset}+${length}`).toBe(0);
    const all = Buffer.alloc(bytes.length);
    for (let at = 0; at < all.length; at += 50_000) s.read(all.subarray(at, Math.min(all.length, at + 50_000)), at);
    expect(Buffer.compare(all, bytes)).toBe(0);
    expect(failure(() => readAt(s, bytes.length, 1)).code).toBe('corrupt');
    s.close();
    s.close();
  });

  needs('knows what is zero, and asks once for it', async () => {
    const { file, bytes } = disk();
    const s = new NbdSource(await start(file, '-r'));
    const runs = [...mapAll(s, 0, s.size)].map((r) => [r.kind, r.at, r.length] as const);
    expect(runs.length).toBeGreaterThanOrEqual(4);
    for (const [kind, at, length] of runs)
      if (kind === 'zero') expect(bytes.subarray(at, at + length).every((b) => b === 0)).toBe(true);
    expect(runs.filter(([kind]) => kind === 'zero').reduce((n, [, , l]) => n + l, 0)).toBeGreaterThan(15 * MiB);
    expect(s.map(13 * MiB + 7, 100)).toEqual({ kind: 'zero', length: 100 });
    expect(s.map(100, 50)).toEqual({ kind: 'zero', length: 50 });
    s.close();
  });

  needs('writes, zeroes, trims: random operations as a model has them, and on the disk at the end', async () => {
    const { file, bytes } = disk();
    const s = new WritableNbdSource(await start(file), { blockSize: 64 << 10, cacheBytes: 1 << 20 });
    const range = fc.record({ offset: fc.nat(bytes.length), length: fc.oneof(fc.nat(5000), fc.nat(3 * MiB)) });
    const op = fc.record({
      op: fc.constantFrom('read', 'read', 'write', 'zero', 'map', 'flush'),
      range,
      value: fc.integer({ min: 1, max: 255 }),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 20 }), (list) => {
        for (const { op: what, range: r, value } of list) {
          const { offset } = r;
          const length = Math.min(r.length, bytes.length - offset);
          switch (what) {
            case 'read':
              expect(Buffer.compare(readAt(s, offset, length), bytes.subarray(offset, offset + length))).toBe(0);
              break;
            case 'write':
              s.write(Buffer.alloc(length, value), offset);
              bytes.fill(value, offset, offset + length);
              break;
            case 'zero':
              s.zero(offset, length);
              bytes.fill(0, offset, offset + length);
              break;
            case 'map':
              if (length > 0)
                for (const m of mapAll(s, offset, length))
                  if (m.kind === 'zero') expect(bytes.subarray(m.at, m.at + m.length).every((b) => b === 0)).toBe(true);
              break;
            case 'flush':
              s.flush();
          }
        }
      }),
      { numRuns: 20 },
    );
    s.discard(MiB, 2 * MiB);
    s.zero(MiB, 2 * MiB);
    bytes.fill(0, MiB, 3 * MiB);
    s.flush();
    s.close();
    expect(Buffer.compare(readFileSync(file), bytes)).toBe(0);
  });

  needs('says what is wrong: unknown export, read-only', async () => {
    const { file } = disk();
    const uri = await start(file, '-r', '-x', 'one');
    const named = uri.replace(/\/\/\/[^?]*/, '///one');
    expect(failure(() => new NbdSource(named.replace('///one', '///two')))).toMatchObject({
      code: 'not-found',
      message: 'the server has no export "two" (there are: "one")',
    });
    expect(failure(() => openNbd(named, true))).toMatchObject({ code: 'read-only' });
    openNbd(named, false).close();
  });
});

describe('when the server fails', () => {
  it('nobody listens: refused, no such socket', () => {
    expect(failure(() => new NbdSource('nbd://127.0.0.1:1/'))).toMatchObject({ code: 'io', where: { errno: 'ECONNREFUSED' } });
    expect(failure(() => new NbdSource(uriOf(join(dir, 'none'))))).toMatchObject({
      code: 'not-found',
      message: /no such socket/,
    });
    expect(failure(() => new NbdSource('nbd://no-such-host.invalid/')).code).toMatch(/not-found|io/);
  });

  it.each([
    ['no-nbd', /this is no NBD server/],
    ['garbage', /NBD handshake: bad reply magic/],
    ['closes', /the server closed the connection/],
    ['silent', /no answer within 1 s/],
  ])('a server that is %s', async (mode, message) => {
    const socket = path('s');
    await faulty(socket, mode);
    const start = Date.now();
    const e = failure(() => new NbdSource(uriOf(socket), { timeoutMs: 1000 }));
    expect(e.message).toMatch(message);
    expect(Date.now() - start).toBeLessThan(5000);
  });

  it('killed in the middle: a read is a typed error that names the server, and the next one too', async () => {
    const { file, bytes } = disk();
    const served = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    const s = new NbdSource(served.uri);
    expect(readAt(s, 2 * MiB, 100)).toEqual(Uint8Array.from(bytes.subarray(2 * MiB, 2 * MiB + 100)));
    served.child.kill('SIGKILL');
    await served.ended;
    const e = failure(() => readAt(s, 0, 10 * MiB));
    expect(e).toMatchObject({ code: 'io', where: { path: served.uri } });
    expect(e.message).toMatch(/closed the connection, and connecting again failed: connection refused/);
    expect(failure(() => readAt(s, 15 * MiB, 1)).code).toBe('io');
    s.close();
  });

  it('a server that comes back is connected to again, for reading; writes that may be lost are told', async () => {
    const { file, bytes } = disk();
    const socket = path('s');
    const first = await serve(['-t', '-f', 'raw', '-k', socket, file]);
    const s = new WritableNbdSource(first.uri);
    s.write(Buffer.from('flushed'), 0);
    s.flush();
    const restart = async (old: typeof first) => {
      old.child.kill('SIGKILL');
      await old.ended;
      return serve(['-t', '-f', 'raw', '-k', socket, file]);
    };
    const second = await restart(first);
    expect(Buffer.compare(readAt(s, 2 * MiB, 3 * MiB), bytes.subarray(2 * MiB, 5 * MiB))).toBe(0);
    s.write(Buffer.from('again'), 100);
    await restart(second);
    expect(failure(() => readAt(s, 2 * MiB, 3 * MiB)).message).toMatch(/what was written since the last flush may be lost/);
    expect(failure(() => s.flush()).message).toMatch(/may be lost/);
    s.close();
  });

  it('a connection that breaks in the middle of a read is made anew once, and the bytes are right', async () => {
    const { file, bytes } = disk();
    const backend = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    const socket = path('proxy');
    await faulty(socket, 'drop', backend.socket, String(2 * MiB));
    const s = new NbdSource(uriOf(socket));
    expect(Buffer.compare(readAt(s, MiB, 6 * MiB), bytes.subarray(MiB, 7 * MiB))).toBe(0);
    s.close();
  });
});

describe('the tools', () => {
  itNeeds(
    'qemu-img',
    'qemu-nbd',
    'mke2fs',
  )('read files, list filesystems and convert over NBD', async () => {
    const root = path('root');
    run('mkdir', [root]);
    writeFileSync(join(root, 'hello'), 'hello over NBD\n');
    const fs = path('fs.raw');
    run('mke2fs', ['-q', '-t', 'ext4', '-L', 'remote', '-d', root, fs, '24M']);
    const qcow2 = path('fs.qcow2');
    run('qemu-img', ['convert', '-O', 'qcow2', fs, qcow2]);
    // The qcow2 file itself is exported: our format engine reads it remotely.
    const socket = path('s');
    await serveQemu(socket, ['-r', '-f', 'raw', '-e', '0', qcow2]);
    const uri = uriOf(socket);
    expect(tool('virt-cat', ['-a', uri, '-m', '/dev/sda', '/hello'])).toMatchObject({
      status: 0,
      stdout: 'hello over NBD\n',
      stderr: '',
    });
    expect(tool('virt-filesystems', ['-a', uri, '--long']).stdout).toMatch(/\/dev\/sda +filesystem +ext4 +remote/);
    expect(tool('guestwright', ['stack', uri]).stdout).toMatch(/ext4/);
    expect(tool('virt-img', ['info', '--output=json', uri]).stdout).toMatch(/"format": "qcow2"/);
    const out = path('out.raw');
    expect(tool('virt-img', ['convert', '-O', 'raw', uri, out])).toMatchObject({ status: 0, stderr: '' });
    run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', fs, out]);
    expect(tool('virt-img', ['compare', uri, fs]).stdout).toMatch(/identical/);
  });

  itNeeds('qemu-img')('convert into a server, and into an image on one', async () => {
    const { file, bytes } = disk();
    const target = path('target.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', target, String(bytes.length)]);
    const s = await serve(['-k', path('s'), target]);
    const r = tool('virt-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, s.uri]);
    expect(r).toMatchObject({ status: 0, stderr: '' });
    expect(await s.ended).toBe(0);
    run('qemu-img', ['check', '-q', target]);
    run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', file, target]);
  });

  itNeeds('qemu-img')('end with status 1 and one line when the server dies under them', async () => {
    const { file } = disk();
    const backend = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    const socket = path('proxy');
    await faulty(socket, 'die', backend.socket, String(MiB));
    const out = path('out.raw');
    const r = tool('virt-img', ['convert', '-f', 'raw', '-O', 'raw', uriOf(socket), out]);
    expect(r.status).toBe(1);
    expect(r.stderr).toMatch(/^virt-img convert: nbd\+unix:\/\/.*-proxy: .*(closed|lost).*, and connecting again failed: .+\n$/);
    expect(existsSync(out)).toBe(false);
  });
});
