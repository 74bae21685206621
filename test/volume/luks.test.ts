import { createHash } from 'node:crypto';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { readAt } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import { openStorage } from '../../lib/storage/open.js';
import { luks } from '../../lib/volume/luks/index.js';
import type { KeyRing, VolumeGroup } from '../../lib/volume/manager.js';
import { mutations } from '../fuzz/bytes.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const dir = temporaryFolder();
const shared = itIf(hasSharedData(), noSharedData);
const key = (text: string): KeyRing => ({ for: () => [Buffer.from('wrong'), Buffer.from(text)] });

function decryptedSha256(path: string, passphrase: string): string {
  const storage = openStorage([{ path }], key(passphrase));
  const volume = [...storage.nodes()].find((n) => n.device.startsWith('/dev/mapper/luks-'))!;
  expect(volume.problems).toEqual([]);
  const h = createHash('sha256');
  for (let at = 0; at < volume.size; at += 1 << 20) h.update(readAt(volume.source!, at, Math.min(1 << 20, volume.size - at)));
  storage.close();
  return h.digest('hex');
}

describe('devices that cryptsetup made', () => {
  shared('LUKS1 in a partition and LUKS2 with 4096-byte sectors decrypt to what the kernel decrypted', () => {
    for (const [name, passphrase, device] of [
      ['luks/made-luks-lvm.img.zst', 'correct-horse', '/dev/mapper/c1'],
      ['luks/made-luks-fs.img.zst', 'correct-horse', '/dev/mapper/c2'],
      ['luks/made-luks-fs.img.zst', 'second-shared', '/dev/mapper/c2'],
    ] as const) {
      const want = sharedEntries().find((e) => e.name === name)!.expected.sha256 as Record<string, string>;
      expect([want['/dev/mapper/c1'], want['/dev/mapper/c2']]).toContain(decryptedSha256(sharedFile(name), passphrase));
      expect(device).toMatch(/^\/dev\/mapper\//);
    }
  });
  itNeeds('cryptsetup')('every key derivation and cipher that we support opens with its passphrase and with no other', () => {
    const path = join(dir, 'luks.img');
    const passphrase = join(dir, 'passphrase');
    writeFileSync(passphrase, 'open sesame');
    for (const options of [
      ['--type', 'luks1', '--hash', 'sha1'],
      ['--type', 'luks1', '--cipher', 'aes-cbc-essiv:sha256', '--key-size', '256'],
      ['--type', 'luks2', '--pbkdf', 'pbkdf2'],
      ['--type', 'luks2', '--pbkdf', 'argon2i', '--pbkdf-memory', '4096', '--sector-size', '4096'],
      ['--type', 'luks2', '--pbkdf', 'argon2id', '--pbkdf-memory', '4096', '--hash', 'sha512', '--key-size', '256'],
    ]) {
      writeFileSync(path, '');
      truncateSync(path, 32 << 20);
      run('cryptsetup', [
        'luksFormat',
        '-q',
        '--iter-time',
        '50',
        ...(options.includes('luks1') || options.includes('pbkdf2') ? [] : ['--pbkdf-parallel', '1']),
        ...options,
        path,
        passphrase,
      ]);
      const source = openFile(path);
      const member = luks.probe(source)!;
      expect(member.uuid).toBe(run('cryptsetup', ['luksUUID', path]).trim());
      const open = (keys: KeyRing) => (luks.assemble([member], keys) as [VolumeGroup])[0].volumes[0]!;
      expect(open(key('open sesame')).unreadable).toBeUndefined();
      expect(open(key('open sesam')).unreadable).toMatch(/^none of the 2 keys given opens this LUKS[12] device$/);
      expect(() => open({ for: () => [] }).open()).toThrow(/encrypted with LUKS[12]: give its key with --key/);
      source.close();
    }
  });
});

describe('a guest with LVM in LUKS2', () => {
  const image = () => sharedFile('guest/debcrypt.img.zst');
  shared('is inspected with its passphrase, however that is given', () => {
    writeFileSync(join(dir, 'key'), 'debian crypt\n');
    for (const [args, input] of [
      [['--key', '/dev/sda2:key:debian crypt'], ''],
      [['--key', 'all:key:debian crypt'], ''],
      [['--key', `/dev/sda2:file:${join(dir, 'key')}`], ''],
      [['--keys-from-stdin'], 'debian crypt\n'],
    ] as const)
      expect(tool('virt-cat', ['-a', image(), ...args, '/etc/hostname'], { input })).toMatchObject({
        stdout: 'cryptdeb\n',
        status: 0,
      });
    expect(tool('virt-filesystems', ['-a', image(), '--key', 'all:key:debian crypt']).stdout).toBe(
      '/dev/sda1\n/dev/cryptvg/root\n',
    );
  });
  shared('says what is missing without it', () => {
    const r = tool('virt-cat', ['-a', image(), '/etc/hostname']);
    expect(r.status).toBe(1);
    expect(r.stderr).toMatch(/no operating system was found .*encrypted with LUKS2: give its key with --key \/dev\/sda2:key:/);
    expect(tool('virt-cat', ['-a', image(), '--key', 'nonsense', '/x']).stderr).toMatch(
      /--key: "nonsense" is not DEVICE:key:KEY/,
    );
  });
});

describe('damaged headers', () => {
  for (const e of sharedEntries().filter((x) => x.name.startsWith('bad/luks') || x.kind.startsWith('luks')))
    shared(`${e.name} opens or says why not`, () => {
      const path = sharedFile(e.name);
      if (statSync(path).size < 1024) return;
      const source = openFile(path);
      const member = luks.probe(source);
      if (member !== undefined)
        for (const g of luks.assemble([member], { for: () => [] })) expect(g.volumes[0]!.unreadable).toBeTruthy();
      source.close();
    });
  shared('2000 mutations of a LUKS2 header end in a volume or in a GuestError', () => {
    const source = openFile(sharedFile('luks/made-luks2.img.zst'));
    const head = readAt(source, 0, 32768);
    source.close();
    for (const bytes of mutations([head], 2000, 9)) {
      const member = luks.probe(new MemorySource(bytes));
      if (member === undefined) continue;
      try {
        luks.assemble([member], { for: () => [] })[0]!.volumes[0]!.open();
      } catch (e) {
        expect(e).toBeInstanceOf(GuestError);
      }
    }
  });
});
