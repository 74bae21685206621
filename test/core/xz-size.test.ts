import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { unxz } from '../../lib/core/codec.js';
import { GuestError } from '../../lib/core/errors.js';
import { xzSize } from '../../lib/core/xz-size.js';
import { mutations } from '../fuzz/bytes.js';
import { itNeeds } from '../helpers/needs.js';

const xz = (input: Uint8Array, ...options: string[]): Buffer =>
  spawnSync('xz', ['-c', ...options], { input, maxBuffer: 1 << 28 }).stdout;
const text = Buffer.from(Array.from({ length: 5000 }, (_, i) => `line ${i} of a log\n`).join(''));
/** Chunks that are stored, and chunks that are packed. */
const mixed = Buffer.concat([text, randomBytes(300_000), Buffer.alloc(3 << 20), text]);

describe('the size of .xz data, from its chunks', () => {
  itNeeds('xz')('is what they unpack to, whatever the check, filters, blocks and streams', () => {
    for (const check of ['none', 'sha256'])
      for (const options of [
        ['-0'],
        ['-9'],
        ['-1', '--block-size=100000'],
        ['--x86', '--lzma2=preset=1'],
        ['--delta=dist=4', '--lzma2'],
      ]) {
        const packed = xz(mixed, `--check=${check}`, ...options);
        expect([check, options, xzSize(packed)]).toEqual([check, options, mixed.length]);
      }
    for (const empty of [xz(new Uint8Array(0)), xz(Uint8Array.of(1))]) expect(xzSize(empty)).toBe(unxz(empty, 10).length);
    const streams = Buffer.concat([xz(text), Buffer.alloc(8), xz(Buffer.from('x')), xz(mixed, '--check=none')]);
    expect(xzSize(streams)).toBe(text.length + 1 + mixed.length);
    expect(Buffer.from(unxz(streams, 1 << 24)).equals(Buffer.concat([text, Buffer.from('x'), mixed]))).toBe(true);
  });
  itNeeds('xz')('stops a bomb before it is unpacked, also one whose index lies', () => {
    const bomb = xz(Buffer.alloc(30 << 20), '--check=none');
    expect(bomb.length).toBeLessThan(20000);
    expect(() => unxz(bomb, 1 << 20)).toThrow('xz data: unpacks to 31457280 bytes, above the limit of 1048576');
    // Another stream behind it has a small index, which is all that the end of the file shows.
    expect(() => unxz(Buffer.concat([bomb, xz(Buffer.from('x'))]), 1 << 20)).toThrow('above the limit');
  });
  itNeeds('xz')('cut or changed data give bytes or a GuestError, and never more bytes than allowed', () => {
    const seeds = [
      xz(text.subarray(0, 3000)),
      xz(Buffer.concat([randomBytes(500), text.subarray(0, 500)]), '--check=none', '--block-size=400'),
    ];
    for (const bytes of mutations(
      seeds.map((s) => Uint8Array.from(s)),
      1500,
      1,
    ))
      try {
        expect(unxz(bytes, 5000).length).toBeLessThanOrEqual(5000);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
      }
    for (let n = 0; n < seeds[0]!.length; n++)
      try {
        unxz(seeds[0]!.subarray(0, n), 5000);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
      }
  });
  it('refuses a dictionary that would take gigabytes', () => {
    const b = Uint8Array.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x21, 1, 40, 0, 0, 0, 0, 0, 0, 0]);
    expect(() => xzSize(b)).toThrow(/dictionary of \d+ bytes is above the limit of 268435456/);
  });
});
