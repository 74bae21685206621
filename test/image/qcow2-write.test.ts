import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { openImage } from '../../lib/image/open.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { all, below, makeQcow2, mutate, openRw, qemuCheck, qemuRaw, random } from './qcow2-helpers.js';

const dir = temporaryFolder();
const SIZE = 3 * 1024 * 1024 + 512;
const CASES: Readonly<Record<string, Record<string, string>>> = {
  defaults: {},
  'version 2': { compat: '0.10' },
  '512-byte clusters': { cluster_size: '512' },
  '512-byte clusters, 64-bit refcounts': { cluster_size: '512', refcount_bits: '64' },
  '4 KiB clusters, 1-bit refcounts': { cluster_size: '4k', refcount_bits: '1' },
  '4 KiB clusters, 4-bit refcounts': { cluster_size: '4k', refcount_bits: '4' },
  '2 MiB clusters': { cluster_size: '2M' },
  '8-bit refcounts, lazy': { refcount_bits: '8', lazy_refcounts: 'on' },
  'subclusters of 512 bytes': { extended_l2: 'on', cluster_size: '16k' },
  'subclusters of 2 KiB': { extended_l2: 'on' },
  'external data file': { data_file: 'data.raw' },
  'raw external data file': { data_file: 'data-raw.raw', data_file_raw: 'on' },
  'subclusters and data file': { extended_l2: 'on', data_file: 'data-ext.raw' },
  'metadata preallocated': { preallocation: 'metadata' },
  'fully preallocated': { preallocation: 'full', cluster_size: '4k' },
  zstd: { compression_type: 'zstd' },
};

describe('what we write, QEMU finds clean and reads the same', () => {
  for (const [name, settings] of Object.entries(CASES))
    itNeeds('qemu-img')(name, () => {
      const path = join(dir, `w-${name.replaceAll(/\W+/g, '-')}.qcow2`);
      const dataFile = settings['data_file'];
      makeQcow2(path, SIZE, dataFile === undefined ? settings : { ...settings, data_file: join(dir, dataFile) });
      expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
      const model = new Uint8Array(SIZE);
      const r = random(name.length * 7919);
      for (let round = 0; round < 2; round++) {
        const image = openRw(path);
        mutate(image, model, r, 60);
        expect(Buffer.compare(all(image), model)).toBe(0);
        if (settings['data_file'] === undefined)
          for (let i = 0; i < 8; i++) {
            const at = below(r, Math.floor(SIZE / image.clusterSize) || 1) * image.clusterSize;
            const cluster = new Uint8Array(Math.min(image.clusterSize, SIZE - at)).fill(i + 1);
            for (let k = 0; k < cluster.length; k += 7) cluster[k] = r();
            image.writeCompressed(cluster, at);
            model.set(cluster, at);
          }
        expect(Buffer.compare(all(image), model)).toBe(0);
        expect(image.check()).toMatchObject({ corruptions: 0, leaks: 0 });
        image.close();
        const found = qemuCheck(path);
        expect(found).toMatchObject({ corruptions: 0, leaks: 0 });
        const ours = openImage(path);
        const check = ours.check!();
        expect(check.allocatedClusters).toBe(found.json['allocated-clusters'] ?? 0);
        expect(check.fragmentedClusters).toBe(found.json['fragmented-clusters'] ?? 0);
        expect(check.compressedClusters).toBe(found.json['compressed-clusters'] ?? 0);
        expect(check.imageEnd).toBe(found.json['image-end-offset']);
        ours.close();
        expect(Buffer.compare(qemuRaw(path, join(dir, 'w.raw')), model)).toBe(0);
      }
    });
});

describe('what QEMU writes, we read the same', () => {
  for (const [name, settings] of Object.entries(CASES))
    itNeeds('qemu-img', 'qemu-io')(name, () => {
      const path = join(dir, `r-${name.replaceAll(/\W+/g, '-')}.qcow2`);
      const list = Object.entries(settings).map(([k, v]) => `${k}=${k === 'data_file' ? join(dir, `q-${v}`) : v}`);
      run('qemu-img', ['create', '-q', '-f', 'qcow2', ...(list.length > 0 ? ['-o', list.join(',')] : []), path, `${SIZE}`]);
      const r = random(name.length * 104729);
      const commands: string[] = [];
      for (let i = 0; i < 25; i++) {
        const at = below(r, SIZE / 512) * 512;
        const n = Math.min(SIZE - at, (1 + below(r, 500)) * 512);
        const kind = below(r, 5);
        commands.push(
          '-c',
          kind < 3 ? `write -P ${1 + below(r, 255)} ${at} ${n}` : kind < 4 ? `write -z -u ${at} ${n}` : `discard ${at} ${n}`,
        );
      }
      run('qemu-io', ['-f', 'qcow2', ...commands, path]);
      const image = openImage(path);
      expect(Buffer.compare(all(image), qemuRaw(path, join(dir, 'r.raw')))).toBe(0);
      const check = image.check!();
      expect(check).toMatchObject({ corruptions: 0, leaks: 0 });
      expect(check.imageEnd).toBe(qemuCheck(path).json['image-end-offset']);
      // Extents: ours, joined, against qemu-img map.
      const map = JSON.parse(run('qemu-img', ['map', '--output=json', path])) as {
        start: number;
        length: number;
        zero: boolean;
        data: boolean;
      }[];
      for (const m of map)
        for (let at = m.start; at < m.start + m.length; ) {
          const e = image.extent(at, m.start + m.length - at);
          expect({ at, zero: e.zero, data: e.data }).toEqual({ at, zero: m.zero, data: m.data });
          at += e.length;
        }
      image.close();
    });
});

describe('backing files', () => {
  for (const [name, settings] of Object.entries({
    plain: {},
    'version 2': { compat: '0.10' },
    subclusters: { extended_l2: 'on' },
    small: { cluster_size: '512' },
  } as Record<string, Record<string, string>>))
    itNeeds('qemu-img')(`copy on write over a shorter backing file: ${name}`, () => {
      const base = join(dir, `base-${name}.qcow2`);
      const top = join(dir, `top-${name}.qcow2`);
      const baseSize = 2 * 1024 * 1024;
      makeQcow2(base, baseSize);
      const model = new Uint8Array(SIZE);
      const r = random(name.length + 17);
      const b = openRw(base);
      mutate(b, model.subarray(0, baseSize), r, 40);
      b.close();
      makeQcow2(top, SIZE, settings, { backing: { name: `base-${name}.qcow2`, format: 'qcow2' } });
      const t = openRw(top);
      expect(Buffer.compare(all(t), model)).toBe(0);
      mutate(t, model, r, 60);
      expect(Buffer.compare(all(t), model)).toBe(0);
      t.close();
      expect(qemuCheck(top)).toMatchObject({ corruptions: 0, leaks: 0 });
      expect(Buffer.compare(qemuRaw(top, join(dir, 'b.raw')), model)).toBe(0);
    });
});

describe('LUKS', () => {
  const secret = 'open-sesame';
  const options = (path: string) => [
    '--object',
    `secret,id=s,data=${secret}`,
    '--image-opts',
    `driver=qcow2,file.filename=${path},encrypt.key-secret=s`,
  ];
  for (const [name, settings] of Object.entries({
    'xts-plain64': {},
    'cbc-essiv': {
      'encrypt.cipher-mode': 'cbc',
      'encrypt.ivgen-alg': 'essiv',
      'encrypt.ivgen-hash-alg': 'sha256',
      'encrypt.cipher-alg': 'aes-256',
    },
    'aes-128, 4 KiB clusters': { 'encrypt.cipher-alg': 'aes-128', cluster_size: '4k' },
    subclusters: { extended_l2: 'on' },
  } as Record<string, Record<string, string>>))
    itNeeds('qemu-img', 'qemu-io')(`${name}: both directions`, () => {
      const path = join(dir, `luks-${name.replaceAll(/\W+/g, '-')}.qcow2`);
      makeQcow2(path, SIZE, { 'encrypt.format': 'luks', 'encrypt.iter-time': '10', ...settings }, { secret });
      const model = new Uint8Array(SIZE);
      const image = openRw(path, secret);
      mutate(image, model, random(99), 50);
      expect(Buffer.compare(all(image), model)).toBe(0);
      image.close();
      expect(qemuCheck(path, options(path))).toMatchObject({ corruptions: 0, leaks: 0 });
      run('qemu-img', [
        'convert',
        ...options(path).slice(0, 2),
        '-O',
        'raw',
        '--image-opts',
        options(path)[3]!,
        join(dir, 'luks.raw'),
      ]);
      expect(Buffer.compare(all(openImage(join(dir, 'luks.raw'), { format: 'raw' })), model)).toBe(0);
      run('qemu-io', [...options(path), '-c', 'write -P 0x5b 1M 100k']);
      model.fill(0x5b, 1 << 20, (1 << 20) + 102400);
      const again = openImage(path, { secret: () => new TextEncoder().encode(secret) });
      expect(Buffer.compare(all(again), model)).toBe(0);
      again.close();
      expect(() => openImage(path, { secret: () => new TextEncoder().encode('wrong') })).toThrow(/no key slot/);
      const locked = openImage(path);
      expect(() => all(locked)).toThrow(/passphrase is needed/);
      locked.close();
    });
});

itNeeds('qemu-img', 'qemu-io')('legacy AES, read and written', () => {
  const path = join(dir, 'aes.qcow2');
  const secret = 'a passphrase longer than a key';
  const object = ['--object', `secret,id=s,data=${secret}`];
  const opts = [...object, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`];
  run('qemu-img', ['create', '-q', '-f', 'qcow2', ...object, '-o', 'encrypt.format=aes,encrypt.key-secret=s', path, '2M']);
  run('qemu-io', [...opts, '-c', 'write -P 0x31 100k 300k']);
  const image = openRw(path, secret);
  const model = new Uint8Array(2 << 20).fill(0x31, 102400, 409600);
  expect(Buffer.compare(all(image), model)).toBe(0);
  image.write(new Uint8Array(70_001).fill(0x32), 200_003);
  model.fill(0x32, 200_003, 270_004);
  expect(Buffer.compare(all(image), model)).toBe(0);
  image.close();
  run('qemu-io', [...opts, '-c', 'read -P 0x31 100k 512', '-c', 'read -P 0x32 200003 70001', '-c', 'read -P 0x31 270004 100000']);
});
