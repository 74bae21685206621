import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { fat } from '../../lib/filesystem/fat/index.js';
import { at, contentsByRuns, contentsOf, filesystemSuite, namesOf, UNIX, walkAll } from '../conformance/filesystem.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const shared = itIf(hasSharedData(), noSharedData);
const tools = ['mkfs.vfat', 'mcopy', 'mdir', 'mmd'];
const missing = tools.find((t) => !hasTool(t));
const sha = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');

function format(image: string, size: string, bits: number, ...more: string[]): void {
  run('rm', ['-f', image]);
  run('truncate', ['-s', size, image]);
  run('mkfs.vfat', ['-F', String(bits), ...more, image]);
}

for (const [bits, size, more] of [
  [12, '7M', []],
  [16, '30M', []],
  [32, '80M', ['-s', '2']],
  [32, '300M', ['-S', '4096', '-s', '1']],
] as const)
  filesystemSuite({
    name: `FAT${bits} ${more.join(' ')}, filled by mtools`,
    driver: fat,
    capabilities: {
      ...UNIX,
      symlinks: false,
      hardLinks: false,
      holes: false,
      devices: false,
      xattrs: false,
      acls: false,
      byteNames: false,
      astralNames: false,
      ownership: false,
      caseSensitive: false,
      years: [1981, 2106],
      longestName: 250,
      bigDirectory: bits === 12 ? 100 : 240,
    },
    missing: missing === undefined ? undefined : `${missing} not installed`,
    makeImage(folder, image) {
      format(image, size, bits, ...more);
      // What mkfs.vfat and the kernel take for short names; mtools would take 850.
      const settings = join(dir, 'mtoolsrc');
      writeFileSync(settings, 'default_codepage=437\nmtools_skip_check=1\n');
      // mtools takes local time for UTC when the zone is, and keeps times with -m.
      run('sh', ['-c', 'MTOOLSRC="$3" TZ=UTC LC_ALL=C.UTF-8 mcopy -s -m -Q -i "$1" "$2"/* ::', 'sh', image, folder, settings]);
    },
  });

describe('the shared FAT images', () => {
  shared('have the UUID and label that blkid gives', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'fat')) {
      const v = e.expected?.blkid?.values;
      if (v === undefined) continue;
      const source = openFile(sharedFile(e.name));
      const s = fat.probe(source);
      const expected = v.TYPE === 'vfat' ? [v.TYPE, v.UUID, v.LABEL?.replaceAll('\\ ', ' ')] : [undefined, undefined, undefined];
      expect([e.name, s?.type, s?.uuid, s?.label]).toEqual([e.name, ...expected]);
      source.close();
    }
  });

  shared('hold the files sleuthkit found in them', () => {
    let compared = 0;
    for (const e of sharedEntries().filter(
      (x) => x.kind === 'fat' && !x.bad && x.expected?.tree !== undefined && x.expected.blkid?.values?.TYPE === 'vfat',
    )) {
      const source = openFile(sharedFile(e.name));
      const fs = fat.open(source);
      for (const f of e.expected.tree.file_list ?? e.expected.tree.file_sample) {
        // Labels are not files; sleuthkit writes what is not printable as "^".
        if (f.path.includes('Volume Label') || f.path.includes('^') || f.path.startsWith('$')) continue;
        // Its long name has a wrong checksum: sleuthkit does not look, fsck.fat and the kernel do.
        if (f.path === 'long_name_test.txt') {
          expect(namesOf(fs.root)).toContain('SHORT.TXT');
          continue;
        }
        const node = at(fs.root, f.path);
        expect([e.name, f.path, sha(contentsOf(node))]).toEqual([e.name, f.path, f.sha256]);
        compared++;
      }
      source.close();
    }
    expect(compared).toBeGreaterThan(5);
  });

  shared('that are damaged give an answer or our own error, and never anything else', () => {
    const buffer = new Uint8Array(65536);
    for (const e of sharedEntries().filter((x) => x.kind === 'fat' && x.bad)) {
      const source = openFile(sharedFile(e.name));
      walkAll(() => fat.open(source).root, buffer);
      source.close();
    }
  });

  shared('whose ".." entries go in a circle come to an end', () => {
    const fs = fat.open(openFile(sharedFile('bad/fat/dfir_ntfs-fat32_loop.raw.zst')));
    expect(walkAll(() => fs.root, new Uint8Array(512))).toBeLessThan(3000);
  });
});

describe('FAT details', () => {
  itNeeds(...tools)('lower case kept by Windows NT, code page 437 and orphaned long names', () => {
    const image = join(dir, 'names.img');
    format(image, '4M', 12);
    writeFileSync(join(dir, 'x'), 'x');
    run('mcopy', ['-i', image, join(dir, 'x'), '::PLAIN.TXT']);
    run('mcopy', ['-i', image, join(dir, 'x'), '::a name that is long.txt']);
    const bytes = new Uint8Array(readFileSync(image));
    const find = (text: string) => Buffer.from(bytes.buffer).indexOf(Buffer.from(text, 'latin1'));
    const plain = find('PLAIN   TXT');
    bytes[plain + 12] = 0x08;
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toContain('plain.TXT');
    bytes[plain + 12] = 0x18;
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toContain('plain.txt');
    bytes[plain] = 0x9a;
    bytes[plain + 12] = 0;
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toContain('ÜLAIN.TXT');
    bytes[plain] = 0x05;
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toContain('σLAIN.TXT');
    // The short name changes, so that the long name's checksum is another file's.
    const alias = find('ANAMET~1TXT');
    bytes[alias] = 0x42;
    const names = namesOf(fat.open(new MemorySource(bytes)).root);
    expect(names).toContain('BNAMET~1.TXT');
    expect(names).not.toContain('a name that is long.txt');
  });

  itNeeds(...tools)('characters outside the basic plane, and halves of them', () => {
    const image = join(dir, 'astral.img');
    format(image, '4M', 12);
    run('mcopy', ['-i', image, join(dir, 'x'), '::ab is a name']);
    const bytes = new Uint8Array(readFileSync(image));
    const at = Buffer.from(bytes.buffer).indexOf(Buffer.from('a\0b\0 \0i\0', 'latin1'));
    const units = new DataView(bytes.buffer);
    units.setUint16(at, 0xd83d, true);
    units.setUint16(at + 2, 0xde42, true);
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toEqual(['🙂 is a name']);
    units.setUint16(at + 2, 0x62, true);
    expect(namesOf(fat.open(new MemorySource(bytes)).root)).toEqual(['\ufffdb is a name']);
  });

  itNeeds(...tools)('a chain that comes back to itself is an error, not an endless file', () => {
    const image = join(dir, 'loop.img');
    format(image, '20M', 16, '-s', '1');
    writeFileSync(join(dir, 'long'), new Uint8Array(50_000));
    run('mcopy', ['-i', image, join(dir, 'long'), '::long']);
    const bytes = new Uint8Array(readFileSync(image));
    const reserved = bytes[14]! * 512;
    // Cluster 40 leads back to cluster 20.
    new DataView(bytes.buffer).setUint16(reserved + 80, 20, true);
    const fs = fat.open(new MemorySource(bytes));
    expect(() => contentsOf(at(fs.root, 'long'))).toThrow(/the chain from cluster \d+ comes back to cluster \d+/);
  });

  itNeeds(...tools)('a directory inside itself is an error, not an endless tree', () => {
    const image = join(dir, 'circle.img');
    format(image, '4M', 12);
    run('mmd', ['-i', image, '::OUTER', '::OUTER/INNER']);
    const bytes = new Uint8Array(readFileSync(image));
    const find = (text: string) => Buffer.from(bytes.buffer).indexOf(text);
    const view = new DataView(bytes.buffer);
    view.setUint16(find('INNER      ') + 26, view.getUint16(find('OUTER      ') + 26, true), true);
    const { root } = fat.open(new MemorySource(bytes));
    expect(namesOf(at(root, 'OUTER'))).toEqual(['INNER']);
    expect(() => namesOf(at(root, 'OUTER/INNER'))).toThrow(/is in two places/);
  });

  itNeeds(...tools)('finds a file by its long and its short name, in any case', () => {
    const image = join(dir, 'case.img');
    format(image, '4M', 12);
    run('mcopy', ['-i', image, join(dir, 'x'), '::Some Long Name.txt']);
    const { root } = fat.open(openFile(image));
    for (const name of ['Some Long Name.txt', 'some long name.TXT', 'SOMELO~1.TXT', 'somelo~1.txt'])
      expect(root.child(name)?.kind).toBe('file');
    expect(root.child('SOMELO~2.TXT')).toBeUndefined();
  });

  itNeeds(...tools)('reads fragmented files, and uses the second FAT where the first is damaged', () => {
    const image = join(dir, 'fragments.img');
    format(image, '20M', 16, '-s', '1');
    const big = new Uint8Array(200_000).map((_, i) => (i * 7 + (i >> 8)) & 255);
    mkdirSync(join(dir, 'f'), { recursive: true });
    for (let i = 0; i < 60; i++) writeFileSync(join(dir, 'f', `s${i}`), big.subarray(0, 700 + i * 20));
    run('sh', ['-c', 'mcopy -i "$1" "$2"/* ::', 'sh', image, join(dir, 'f')]);
    for (let i = 0; i < 60; i += 2) run('mdel', ['-i', image, `::s${i}`]);
    writeFileSync(join(dir, 'big'), big);
    run('mcopy', ['-i', image, join(dir, 'big'), '::big']);
    const source = openFile(image);
    const node = at(fat.open(source).root, 'big');
    expect([...node.runs(0, big.length)].length, 'it is in pieces').toBeGreaterThan(5);
    expect(sha(contentsOf(node))).toBe(sha(big));
    expect(sha(contentsByRuns(node, image))).toBe(sha(big));

    const damaged = new Uint8Array(readFileSync(image));
    damaged.fill(0, 512 + 4 + 200, 512 + 512);
    const fs = fat.open(new MemorySource(damaged));
    expect(sha(contentsOf(at(fs.root, 'big')))).toBe(sha(big));
    expect(fs.problems.join()).toMatch(/FAT 2 is used instead/);
  });

  itNeeds(...tools, 'minfo')('counts what is free as mtools does', () => {
    for (const [bits, size] of [
      [12, '1M'],
      [16, '20M'],
      [32, '80M'],
    ] as const) {
      const image = join(dir, 'free.img');
      format(image, size, bits, '-s', '1');
      run('mcopy', ['-i', image, join(dir, 'x'), '::x']);
      const u = fat.open(openFile(image)).usage();
      const free = Number(/([\d ]+) bytes free/.exec(run('mdir', ['-i', image, '::']))![1]!.replaceAll(' ', ''));
      expect(u.free * u.blockSize).toBe(free);
      expect(u.blocks).toBeGreaterThan(u.free);
    }
  });

  it('takes no partition table, no NTFS and no exFAT for FAT', () => {
    const mbr = new Uint8Array(1 << 20);
    mbr.set([0xeb, 0x63, 0x90], 0);
    mbr.set([0x55, 0xaa], 510);
    expect(fat.probe(new MemorySource(mbr))).toBeUndefined();
    const ntfs = mbr.slice();
    ntfs.set(Buffer.from('NTFS    '), 3);
    ntfs.set([0, 2, 8, 0, 0, 0, 0, 0, 0, 0, 0xf8], 11);
    expect(fat.probe(new MemorySource(ntfs))).toBeUndefined();
    for (const size of [0, 100, 512, 4096]) {
      expect(fat.probe(new MemorySource(size))).toBeUndefined();
      expect(() => fat.open(new MemorySource(size))).toThrow(expect.objectContaining({ code: 'wrong-format' }));
    }
  });

  shared('and none of the other shared images is taken for FAT unless blkid does', () => {
    for (const e of sharedEntries()) {
      const v = e.expected?.blkid?.values;
      if (
        v?.TYPE === undefined ||
        v.TYPE === 'vfat' ||
        !/^(bad\/)?(ntfs|exfat|ext|xfs|btrfs|iso|luks|lvm|swap|mbr|gpt)\//.test(e.name)
      )
        continue;
      const source = openFile(sharedFile(e.name));
      expect([e.name, fat.probe(source)]).toEqual([e.name, undefined]);
      source.close();
    }
  });
});
