import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { packageRoot } from '../../lib/addon/load.js';
import { HttpSource } from '../../lib/block/http.js';
import { readAt } from '../../lib/block/source.js';
import { serveFile } from '../helpers/http.js';
import { itIf } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const file = join(dir, 'image.bin');
const bytes = randomBytes(3_000_001);
writeFileSync(file, bytes);
const it = itIf(
  existsSync(join(packageRoot(), 'dist/bin/http-worker.js')),
  'dist/bin/http-worker.js is not built (npm run build)',
);
const stats = async (base: string) => (await (await fetch(`${base}/stats`)).json()) as { requests: number; bytesSent: number };

it('reads any range, fetching only the blocks it needs', async () => {
  const base = await serveFile(file, 'ranges');
  const s = new HttpSource(`${base}/image`, { blockSize: 65536 });
  expect(s.size).toBe(bytes.length);
  for (const [offset, length] of [
    [0, 1],
    [65535, 2],
    [1_000_000, 70_000],
    [2_999_999, 2],
    [3_000_000, 1],
  ] as const)
    expect(Buffer.compare(readAt(s, offset, length), bytes.subarray(offset, offset + length))).toBe(0);
  s.close();
  expect((await stats(base)).bytesSent).toBeLessThan(600_000);
});

it('a sequential reader gets blocks ahead in parallel: far fewer waits than blocks', async () => {
  const base = await serveFile(file, 'ranges');
  const s = new HttpSource(`${base}/image`, { blockSize: 65536, cacheBytes: 1 << 20 });
  const all = Buffer.alloc(bytes.length);
  for (let at = 0; at < all.length; at += 10_000) s.read(all.subarray(at, Math.min(all.length, at + 10_000)), at);
  expect(Buffer.compare(all, bytes)).toBe(0);
  // 46 blocks and the opening request; none is fetched twice although the cache holds only 16.
  expect((await stats(base)).requests).toBeLessThanOrEqual(48);
  s.close();
});

it('credentials in the address are sent, and are not shown', async () => {
  const base = await serveFile(file, 'auth');
  const s = new HttpSource(`${base.replace('http://', 'http://user:pass%20word@')}/image`);
  expect(s.label).toBe(`${base}/image`);
  expect(readAt(s, 5, 3)).toEqual(Uint8Array.from(bytes.subarray(5, 8)));
  s.close();
  expect(() => new HttpSource(`${base}/image`)).toThrow(/401 \(are credentials needed\?\)/);
  process.env['GUESTWRIGHT_HTTP_HEADERS'] =
    `X-Other: 1\nAuthorization: Basic ${Buffer.from('user:pass word').toString('base64')}`;
  try {
    new HttpSource(`${base}/image`).close();
  } finally {
    delete process.env['GUESTWRIGHT_HTTP_HEADERS'];
  }
});

it('a server without ranges, a missing file and a dead server are told apart', async () => {
  const none = await serveFile(file, 'none');
  expect(() => new HttpSource(`${none}/image`)).toThrow(/does not support range requests/);
  const base = await serveFile(file, 'ranges');
  expect(() => new HttpSource(`${base}/other`)).toThrow(/404/);
  expect(() => new HttpSource('http://127.0.0.1:1/image')).toThrow(/ECONNREFUSED.*tried 4 times/);
});

it('a file that changes on the server while it is read is an error', async () => {
  const base = await serveFile(file, 'changes');
  const s = new HttpSource(`${base}/image`, { blockSize: 65536 });
  readAt(s, 0, 10);
  expect(() => readAt(s, 1_000_000, 10)).toThrow(/changed on the server/);
  s.close();
});

it('redirects are followed, and requests that fail in passing are tried again', async () => {
  const flaky = await serveFile(file, 'flaky');
  const s = new HttpSource(`${flaky}/image`, { blockSize: 65536 });
  expect(Buffer.compare(readAt(s, 0, 1_000_000), bytes.subarray(0, 1_000_000))).toBe(0);
  s.close();
  const base = await serveFile(file, 'ranges');
  const moved = new HttpSource(`${base}/moved`);
  expect(moved.size).toBe(bytes.length);
  moved.close();
});
