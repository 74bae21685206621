import { createHash } from 'node:crypto';
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFile, openFile, openFileWritable } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { type BlockSource, readUpTo } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import {
  addLuks1Key,
  createLuks1,
  eraseLuks1Slot,
  isLuks1,
  luks1HeaderBytes,
  parseLuks1,
  unlockLuks1,
} from '../../lib/crypto/luks1.js';
import { sectorCipher } from '../../lib/crypto/sector.js';
import { DecryptedSource } from '../../lib/crypto/source.js';
import { itNeeds, run, skipBecause } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const bytes = (s: string) => new TextEncoder().encode(s);
const headerOf = (f: BlockSource) => parseLuks1(readUpTo(f, 0, 1024), f.size);
const opens = (path: string, passphrase: string) =>
  run('cryptsetup', ['luksOpen', '--test-passphrase', '--key-file=-', path], { input: passphrase, ok: [0, 2] });
const plainOf = (f: BlockSource, passphrase: string) => {
  const h = headerOf(f);
  const found = unlockLuks1(f, h, bytes(passphrase));
  expect(found).toBeDefined();
  return new DecryptedSource(f, sectorCipher({ cipher: h.cipher, mode: h.mode, key: found!.key }), h.payloadOffset * 512);
};

describe('LUKS1', () => {
  for (const [cipher, size] of [
    ['aes-xts-plain64', '512'],
    ['aes-xts-plain64', '256'],
    ['aes-cbc-essiv:sha256', '256'],
    ['aes-cbc-plain64', '128'],
  ] as const)
    itNeeds('cryptsetup')(`opens what cryptsetup made: ${cipher}, ${size} bits`, () => {
      const path = join(dir, 'theirs.img');
      const made = createFile(path);
      made.resize(4 << 20);
      made.close();
      const args = [
        'luksFormat',
        '-q',
        '--type',
        'luks1',
        '--cipher',
        cipher,
        '--key-size',
        size,
        '--pbkdf-force-iterations',
        '1000',
      ];
      run('cryptsetup', [...args, '--key-file=-', path], { input: 'passphrase' });
      const f = openFile(path);
      const h = headerOf(f);
      expect(unlockLuks1(f, h, bytes('wrong'))).toBeUndefined();
      const found = unlockLuks1(f, h, bytes('passphrase'));
      expect(found?.slot).toBe(0);
      // The volume key itself, as cryptsetup tells it.
      const dump = run('cryptsetup', ['luksDump', '-q', '--dump-master-key', '--key-file=-', path], { input: 'passphrase' });
      const hex = /MK dump:\s*([0-9a-f\s]+)/.exec(dump)![1]!.replaceAll(/\s/g, '');
      expect(Buffer.from(found!.key).toString('hex')).toBe(hex);
      f.close();
    });

  itNeeds('cryptsetup')('cryptsetup opens what is made here, in each slot', () => {
    const path = join(dir, 'ours.img');
    const f = createFile(path);
    const made = createLuks1(f, bytes('first'), { iterMs: 10 });
    truncateSync(path, luks1HeaderBytes(64) + (1 << 20));
    const dump = run('cryptsetup', ['luksDump', path]);
    expect(dump).toContain('Cipher mode:   \txts-plain64');
    expect(dump).toContain(made.header.uuid);
    run('cryptsetup', ['luksOpen', '--test-passphrase', '--key-file=-', path], { input: 'first' });
    let h = addLuks1Key(f, made.header, made.key, bytes('second'), { iterMs: 10 });
    h = addLuks1Key(f, h, made.key, bytes('eighth'), { slot: 7, iterMs: 10 });
    run('cryptsetup', ['luksOpen', '--test-passphrase', '--key-slot', '7', '--key-file=-', path], { input: 'eighth' });
    h = eraseLuks1Slot(f, h, 0);
    expect(unlockLuks1(f, h, bytes('first'))).toBeUndefined();
    expect(() => run('cryptsetup', ['luksOpen', '--test-passphrase', '--key-file=-', path], { input: 'first' })).toThrow();
    expect(opens(path, 'second')).toBe('');
    expect(() => addLuks1Key(f, h, made.key, bytes('x'), { slot: 1 })).toThrow(/in use/);
    expect(() => addLuks1Key(f, h, made.key, bytes('x'), { slot: 9 })).toThrow(/no LUKS key slot 9/);
    f.close();
  });

  itNeeds('qemu-img', 'qemu-io')("QEMU's encrypted disk, read and written", () => {
    const path = join(dir, 'q.luks');
    const opts = ['--object', 'secret,id=s,data=abc', '--image-opts', `driver=luks,file.filename=${path},key-secret=s`];
    run('qemu-img', [
      'create',
      '-q',
      '-f',
      'luks',
      '--object',
      'secret,id=s,data=abc',
      '-o',
      'key-secret=s,iter-time=10',
      path,
      '2M',
    ]);
    run('qemu-io', [...opts, '-c', 'write -P 0x11 0 1M', '-c', 'write -P 0x22 1M 512']);
    const f = openFileWritable(path);
    const d = plainOf(f, 'abc');
    const b = new Uint8Array((1 << 20) + 100);
    d.read(b, 3);
    expect(b.subarray(0, (1 << 20) - 3).every((x) => x === 0x11)).toBe(true);
    expect(b.subarray((1 << 20) - 3).every((x) => x === 0x22)).toBe(true);
    d.write(new Uint8Array(1000).fill(0x33), 777);
    d.zero(5000, 12345);
    d.flush();
    f.close();
    run('qemu-io', [
      ...opts,
      '-c',
      'read -P 0x11 0 777',
      '-c',
      'read -P 0x33 777 1000',
      '-c',
      'read -P 0x11 1777 3223',
      '-c',
      'read -P 0 5000 12345',
    ]);
  });

  if (!hasSharedData()) skipBecause(noSharedData)('shared LUKS1 images', () => {});
  else
    for (const e of sharedEntries().filter((x) => x.kind === 'luks1'))
      it(`${e.name}: ${e.bad ? 'a typed error' : 'facts as cryptsetup tells them'}`, () => {
        const f = openFile(sharedFile(e.name));
        try {
          const head = readUpTo(f, 0, 1024);
          if (e.bad) {
            if (isLuks1(head)) expect(() => parseLuks1(head, f.size)).toThrow(GuestError);
            return;
          }
          // One of them has its LUKS volume in a partition: lib/storage's business.
          if (!isLuks1(head)) return;
          const h = headerOf(f);
          const text: string = e.expected.luksDump?.text ?? '';
          if (text !== '') {
            expect(text).toContain(`Cipher mode:   \t${h.mode}`);
            expect(text).toContain(h.uuid);
            expect(text).toContain(`Payload offset:\t${h.payloadOffset}`);
          }
          const passphrase: string | undefined = e.expected.passphrase;
          if (passphrase !== undefined && h.cipher === 'aes') {
            const d = plainOf(f, passphrase);
            const plain = e.expected.plain;
            if (plain?.sha256 !== undefined && plain.bytes <= d.size) {
              const b = new Uint8Array(plain.bytes);
              d.read(b, 0);
              expect(createHash('sha256').update(b).digest('hex')).toBe(plain.sha256);
            }
          }
        } finally {
          f.close();
        }
      });

  it('mutated headers give typed errors', () => {
    const f = new MemorySource(0);
    createLuks1(f, bytes('x'), { iterMs: 1 });
    let state = 12345;
    const next = () => (state = (state * 1103515245 + 12345) & 0x7fffffff);
    for (let i = 0; i < 2000; i++) {
      const head = f.bytes.slice(0, 1024);
      for (let k = 0; k < 3; k++) head[next() % 592] = next() & 255;
      try {
        parseLuks1(head, f.size);
      } catch (e) {
        expect(e).toBeInstanceOf(GuestError);
      }
    }
  });
});
