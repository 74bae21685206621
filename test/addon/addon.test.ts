import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codecAddon } from '../../lib/addon/codec.js';
import { dataRun, hasSysio, isZeroFast, ofdLock, ofdLockTest, transfer } from '../../lib/addon/sysio.js';
import { isZero } from '../../lib/core/bytes.js';
import { crc32cPure, crc32cRaw } from '../../lib/core/checksum.js';
import { unzstd } from '../../lib/core/codec.js';
import { itIf } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const codec = codecAddon();
const withSysio = itIf(hasSysio(), 'the sysio addon is not built');
const withCodec = itIf(codec !== undefined, 'the codec addon is not built');

describe('sysio against its pure stand-ins', () => {
  withSysio('CRC-32C in hardware and by table agree', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 500 }), fc.nat(0xffffffff), (b, seed) => {
        expect(crc32cRaw(b, seed)).toBe(crc32cPure(b, seed));
      }),
      { seed: 1 },
    );
  });
  withSysio('a single non-zero byte is seen wherever it stands', () => {
    for (const size of [0, 1, 7, 255, 256, 257, 4096, 5000]) {
      const b = new Uint8Array(size);
      expect([isZeroFast(b), isZero(b)]).toEqual([true, true]);
      for (let i = 0; i < size; i += Math.max(1, Math.floor(size / 50))) {
        b[i] = 1;
        expect([isZeroFast(b), isZero(b), isZero(b.subarray(0, i)), isZeroFast(b.subarray(i))]).toEqual([
          false,
          false,
          true,
          false,
        ]);
        b[i] = 0;
      }
    }
  });
  withSysio('holes of a sparse file are found', () => {
    const path = join(dir, 'sparse');
    writeFileSync(path, Buffer.alloc(65536, 1));
    truncateSync(path, 10 << 20);
    const fd = openSync(path, 'r');
    expect(dataRun(fd, 0, 10 << 20)).toEqual({ data: true, length: 65536 });
    expect(dataRun(fd, 65536, (10 << 20) - 65536)).toEqual({ data: false, length: (10 << 20) - 65536 });
    closeSync(fd);
  });
  withSysio('open-file-description locks exclude each other between two opens of one file', () => {
    const path = join(dir, 'locked');
    writeFileSync(path, 'x');
    const a = openSync(path, 'r+');
    const b = openSync(path, 'r+');
    expect(ofdLock(a, 'write', 100, 1)).toBeUndefined();
    expect(ofdLock(b, 'read', 100, 1)).toBe(-1);
    expect(ofdLockTest(b, 'write', 100, 1)).toBe(-1);
    expect(ofdLock(b, 'write', 101, 1)).toBeUndefined();
    expect(ofdLock(a, 'unlock', 100, 1)).toBeUndefined();
    expect(ofdLock(b, 'write', 100, 1)).toBeUndefined();
    closeSync(a);
    closeSync(b);
  });
  it('transfer moves bytes, marks zeroes and reads past the end as zeroes', () => {
    const path = join(dir, 'transfer');
    const data = randomBytes(300_000);
    data.fill(0, 65536, 131072);
    writeFileSync(path, data);
    const out = join(dir, 'transfer-out');
    writeFileSync(out, '');
    const fd = openSync(path, 'r');
    const to = openSync(out, 'r+');
    const buffer = new Uint8Array(6 * 65536);
    const zero = new Uint8Array(6);
    transfer(
      [0, 1, 2, 3, 4, 5].map((i) => ({ kind: 'read' as const, fd, offset: i * 65536, length: 65536, at: i * 65536 })),
      buffer,
      zero,
      65536,
    );
    expect([...zero]).toEqual([0, 1, 0, 0, 0, 1]);
    transfer([{ kind: 'write', fd: to, offset: 0, length: 300_000, at: 0 }], buffer, zero, 65536);
    expect(Buffer.compare(readFileSync(out), data)).toBe(0);
    closeSync(fd);
    closeSync(to);
    expect(() => transfer([{ kind: 'write', fd, offset: 0, length: 10, at: 0 }], buffer, zero, 65536)).toThrow();
  });
});

describe('codec against Node’s own crypto and zlib', () => {
  withCodec('AES-XTS: 512- and 4096-byte sectors, both key sizes, many threads', () => {
    for (const keySize of [32, 64])
      for (const sector of [512, 4096]) {
        const key = randomBytes(keySize);
        const data = randomBytes(1 << 20);
        const want = Buffer.concat(
          Array.from({ length: data.length / sector }, (_, i) => {
            const iv = Buffer.alloc(16);
            iv.writeUInt32LE(i + 7);
            const c = createCipheriv(keySize === 32 ? 'aes-128-xts' : 'aes-256-xts', key, iv);
            return Buffer.concat([c.update(data.subarray(i * sector, (i + 1) * sector)), c.final()]);
          }),
        );
        const got = Uint8Array.from(data);
        codec!.xts(true, key, got, sector, 7);
        expect(Buffer.compare(got, want)).toBe(0);
        codec!.xts(false, key, got, sector, 7);
        expect(Buffer.compare(got, data)).toBe(0);
      }
  });
  withCodec('AES-CBC with ESSIV', () => {
    const key = randomBytes(32);
    const ivKey = createHash('sha256').update(key).digest();
    const data = randomBytes(8192);
    const want = Buffer.concat(
      Array.from({ length: 16 }, (_, i) => {
        const n = Buffer.alloc(16);
        n.writeUInt32LE(i + 3);
        const e = createCipheriv('aes-256-ecb', ivKey, null).setAutoPadding(false);
        const iv = e.update(n);
        const c = createCipheriv('aes-256-cbc', key, iv).setAutoPadding(false);
        return c.update(data.subarray(i * 512, (i + 1) * 512));
      }),
    );
    const got = Uint8Array.from(data);
    codec!.cbc(true, key, ivKey, got, 512, 3);
    expect(Buffer.compare(got, want)).toBe(0);
    codec!.cbc(false, key, ivKey, got, 512, 3);
    expect(Buffer.compare(got, data)).toBe(0);
  });
  withCodec('deflate and zstd both ways, damaged and incompressible blocks marked with 0', () => {
    const block = 65536;
    const input = Buffer.concat([Buffer.alloc(block, 'guest '), randomBytes(block), Buffer.alloc(block)]);
    for (const method of ['deflate', 'zlib', ...(codec!.zstd ? (['zstd'] as const) : [])] as const) {
      const output = new Uint8Array(3 * block);
      const plan = new Float64Array([
        0,
        block,
        0,
        block - 1,
        0,
        block,
        block,
        block,
        block - 1,
        0,
        2 * block,
        block,
        2 * block,
        block - 1,
        0,
      ]);
      codec!.compress(method, method === 'zstd' ? 3 : 6, input, output, plan);
      expect(plan[9]).toBe(0);
      for (const i of [0, 2]) {
        const packed = output.subarray(plan[i * 5 + 2]!, plan[i * 5 + 2]! + plan[i * 5 + 4]!);
        const want = input.subarray(i * block, (i + 1) * block);
        if (method === 'deflate') expect(Buffer.compare(inflateRawSync(packed, { windowBits: 12 }), want)).toBe(0);
        if (method === 'zstd') expect(Buffer.compare(unzstd(packed, block), want)).toBe(0);
        const back = new Uint8Array(block);
        const undo = new Float64Array([0, packed.length, 0, block, 0]);
        codec!.decompress(method, packed, back, undo);
        expect(undo[4]).toBe(block);
        expect(Buffer.compare(back, want)).toBe(0);
        codec!.decompress(
          method,
          packed.subarray(0, Math.floor(packed.length / 2)),
          back,
          undo.fill(Math.floor(packed.length / 2), 1, 2).fill(7, 4),
        );
        expect(undo[4]).not.toBe(block);
      }
    }
    const outside = deflateRawSync(input);
    expect(() =>
      codec!.decompress('deflate', outside, new Uint8Array(10), new Float64Array([0, outside.length, 5, 10, 0])),
    ).toThrow(RangeError);
  });
});
