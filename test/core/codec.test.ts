import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32cPure } from '../../lib/core/checksum.js';
import { bunzip2, gunzip, unlz4Block, unxz, unzstd, zstd } from '../../lib/core/codec.js';
import { GuestError } from '../../lib/core/errors.js';
import { itNeeds } from '../helpers/needs.js';

const SAMPLES: Readonly<Record<string, Buffer>> = {
  empty: Buffer.alloc(0),
  text: Buffer.from('the quick brown fox jumps over the lazy dog\n'.repeat(5000)),
  random: randomBytes(300_000),
  runs: Buffer.concat([Buffer.alloc(260, 65), Buffer.alloc(255, 66), Buffer.alloc(4, 67), Buffer.alloc(1_000_000)]),
};
const through = (tool: string, args: readonly string[], input: Buffer) => {
  const r = spawnSync(tool, args, { input, maxBuffer: 1 << 28 });
  expect(r.status).toBe(0);
  return r.stdout;
};

describe('decompressors against the tools that own the formats', () => {
  for (const [name, data] of Object.entries(SAMPLES)) {
    itNeeds('bzip2')(`bzip2 gives back ${name}`, () => {
      expect(Buffer.compare(bunzip2(through('bzip2', ['-c'], data), 1 << 24), data)).toBe(0);
    });
    itNeeds('xz')(`xz gives back ${name}`, () => {
      expect(Buffer.compare(unxz(through('xz', ['-c'], data), 1 << 24), data)).toBe(0);
    });
    itNeeds('zstd')(`zstd gives back ${name}`, () => {
      expect(Buffer.compare(unzstd(through('zstd', ['-c'], data), 1 << 24), data)).toBe(0);
      if (data.length > 0) expect(Buffer.compare(through('zstd', ['-dc'], Buffer.from(zstd(data))), data)).toBe(0);
    });
    itNeeds('gzip')(`gzip gives back ${name}`, () => {
      expect(Buffer.compare(gunzip(through('gzip', ['-c'], data), 1 << 24), data)).toBe(0);
    });
  }
});

it('output above the ceiling is refused before it is made', () => {
  const big = Buffer.alloc(2_000_000);
  for (const [tool, args, f] of [
    ['bzip2', ['-c'], bunzip2],
    ['xz', ['-c'], unxz],
    ['zstd', ['-c'], unzstd],
    ['gzip', ['-c'], gunzip],
  ] as const)
    expect(() => f(through(tool, args, big), 1_000_000)).toThrow(GuestError);
});

it('damaged data ends in a GuestError and in nothing else', () => {
  const streams = [
    [bunzip2, through('bzip2', ['-c'], SAMPLES['text']!)],
    [unzstd, Buffer.from(zstd(SAMPLES['text']!))],
    [unlz4Block, Buffer.from([0xf0, 10, ...Buffer.from('abcdefghijklmnopqrstuvwxy'), 5, 0, 0x0f, 1, 0, 3])],
  ] as const;
  fc.assert(
    fc.property(fc.nat(2), fc.nat(), fc.nat(255), (which, at, value) => {
      const [f, bytes] = streams[which]!;
      const damaged = Uint8Array.from(bytes);
      damaged[at % damaged.length] = value;
      try {
        f(damaged, 1 << 20);
      } catch (e) {
        expect(e).toBeInstanceOf(GuestError);
      }
    }),
    { numRuns: 500, seed: 7 },
  );
});

it('the table CRC-32C gives the check value of RFC 3720', () => {
  expect(~crc32cPure(Buffer.from('123456789'), 0xffffffff) >>> 0).toBe(0xe3069283);
});
