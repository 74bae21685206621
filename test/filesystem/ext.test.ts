import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { GuestError } from '../../lib/core/errors.js';
import { ext } from '../../lib/filesystem/ext/index.js';
import {
  at,
  contentsOf,
  differencesFromMount,
  entriesOf,
  kernelUsage,
  mounted,
  namesOf,
  walkAll,
  whyNoMount,
} from '../conformance/filesystem.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const shared = itIf(hasSharedData(), noSharedData);
const kernel = itIf(hasTool('mke2fs') && whyNoMount() === '', whyNoMount() || 'mke2fs not installed');
const sha = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');

describe('the shared ext images', () => {
  shared('have the type, UUID and label that blkid gives', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'ext')) {
      const v = e.expected?.blkid?.values;
      // A damaged one that blkid takes for FAT: ext's magic number is there too.
      if (v === undefined || v.TYPE === 'vfat') continue;
      const source = openFile(sharedFile(e.name));
      const s = ext.probe(source);
      const label = v.LABEL?.replaceAll('\\ ', ' ');
      expect([e.name, s?.type, s?.uuid, s?.label]).toEqual([
        e.name,
        v.TYPE?.startsWith('xfs') ? undefined : v.TYPE,
        v.TYPE?.startsWith('xfs') ? undefined : v.UUID,
        v.TYPE?.startsWith('xfs') ? undefined : label,
      ]);
      source.close();
    }
  });

  shared('hold the files the kernel found in them', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'ext' && !x.bad && x.expected?.tree !== undefined)) {
      const source = openFile(sharedFile(e.name));
      const fs = ext.open(source);
      const files = e.expected.tree.file_sample ?? e.expected.tree.file_list;
      for (const f of files.slice(0, 300)) {
        if (f.sha256 === undefined || f.path.includes('(')) continue;
        const node = at(fs.root, f.path);
        expect([f.path, node.stat().size, sha(contentsOf(node))]).toEqual([f.path, f.bytes, f.sha256]);
        if (f.mtime !== undefined) expect(node.stat().mtime.sec).toBe(f.mtime);
      }
      source.close();
    }
  });

  shared(
    'that are damaged give an answer or our own error, and never anything else',
    () => {
      const buffer = new Uint8Array(65536);
      for (const e of sharedEntries().filter((x) => x.kind === 'ext')) {
        const source = openFile(sharedFile(e.name));
        walkAll(() => ext.open(source).root, buffer);
        walkAll(() => ext.open(source, { ignoreJournal: true }).root, buffer);
        source.close();
      }
    },
    30_000,
  );

  shared('whose journal is damaged say what was not replayed', () => {
    const problems = (name: string) => ext.open(openFile(sharedFile(name))).problems.join('\n');
    expect(problems('bad/ext/e2-j_corrupt_commit_csum.img.zst')).toMatch(/transaction 3.*wrong checksum/);
    expect(problems('bad/ext/e2-j_corrupt_descr_csum.img.zst')).toMatch(/transaction 3.*wrong checksum/);
    expect(problems('bad/ext/e2-j_corrupt_journal_block.img.zst')).toMatch(/copy of block 1090 .*wrong checksum/);
    expect(problems('bad/ext/e2-j_corrupt_sb_csum.img.zst')).toMatch(/superblock has checksum 0xffffffff/);
  });

  shared('whose superblock or descriptors are gone are read through the backups, and say so', () => {
    const zeroed = ext.open(openFile(sharedFile('bad/ext/e2-f_zero_super.img.zst')));
    expect(namesOf(zeroed.root)).toContain('lost+found');
    expect(zeroed.problems[0]).toMatch(/no ext superblock at 0x400; the backup at 0x800400 is used/);
    const groups = ext.open(openFile(sharedFile('bad/ext/e2-f_zero_group.img.zst')));
    expect(namesOf(groups.root)).toContain('lost+found');
    expect(groups.problems[0]).toMatch(/backup in group 1 is used/);
  });

  shared('name a wrong inode checksum with its place, and leave the other files readable', () => {
    const fs = ext.open(openFile(sharedFile('bad/ext/e2-f_bad_inode_csum.img.zst')));
    const results = entriesOf(at(fs.root, '')).map((e) => {
      try {
        e.node().stat();
        return 'read';
      } catch (x) {
        return x instanceof GuestError ? x.message : 'foreign';
      }
    });
    expect(results).toContain('read');
    expect(results.filter((r) => r !== 'read')[0]).toBe('ext: inode 33 at 0x24000 has checksum 0xf463a3ea, expected 0xc925f2fe');
    expect(results).not.toContain('foreign');
  });

  shared('with an encrypted directory show the names the kernel shows, and ask for the key', () => {
    const fs = ext.open(openFile(sharedFile('ext/ext4-view-test_disk1.ext4.zst')));
    const names = namesOf(at(fs.root, 'encrypted_dir'));
    // From the kernel's own listing of this image.
    expect(names).toEqual(['rnNQwmh3pnyZjLeh4KPEalWryJExOrAS9nzE733j6NumvkLeRw67hA']);
    const node = at(fs.root, `encrypted_dir/${names[0]}`);
    expect(() => node.read(new Uint8Array(10), 0)).toThrow(/is encrypted/);
  });
});

/** A tree written by the kernel, the image copied while it is mounted; `after` happens without a sync behind it. */
function dirtyImage(
  name: string,
  format: readonly string[],
  options: string,
  before: string,
  after: string,
): { copy: string; recovered: string } {
  const image = join(dir, `${name}.img`);
  const copy = join(dir, `${name}.copy`);
  const recovered = join(dir, `${name}.recovered`);
  run('truncate', ['-s', '64M', image]);
  run('mke2fs', ['-q', '-F', ...format, image]);
  mounted(image, options, (point) => {
    run('sh', ['-ec', before], { cwd: point });
    run('sync', ['-f', point]);
    run('sh', ['-ec', after], { cwd: point });
    run('cp', ['--sparse=always', image, copy]);
  });
  run('cp', ['--sparse=always', copy, recovered]);
  mounted(recovered, 'rw', () => {});
  return { copy, recovered };
}

const BEFORE = `mkdir d old; for i in $(seq 200); do echo $i > d/f$i; done; for i in $(seq 20); do echo $i > old/o$i; done
dd if=/dev/urandom of=old/big bs=1M count=2 status=none; ln old/o3 old/h3`;
const AFTER = `rm d/f1?; dd if=/dev/urandom of=big bs=1M count=3 status=none; ln -s x/y l; mv d/f2 d/g2; setfattr -n user.a -v b d/f3
printf '\\300\\073\\071\\230escaped' > esc; mkdir d/sub; echo y > d/sub/y; rm -r old/o1*; sync -f .; rm big; echo z > z; sync -f .`;

describe('journals', () => {
  const cases: readonly (readonly [string, readonly string[], string])[] = [
    ['ext4 as mke2fs makes it (checksum v3, 64-bit)', ['-t', 'ext4'], 'rw'],
    ['32-bit without checksums', ['-t', 'ext4', '-O', '^64bit,^metadata_csum'], 'rw'],
    ['checksum v1', ['-t', 'ext4', '-O', '^metadata_csum'], 'rw,journal_checksum'],
    ['commits that do not wait', ['-t', 'ext4', '-O', '^metadata_csum'], 'rw,journal_async_commit,data=writeback'],
    ['ext3', ['-t', 'ext3'], 'rw'],
    ['data in the journal, escaped blocks', ['-t', 'ext4', '-b', '1024', '-J', 'size=4'], 'rw,data=journal'],
  ];
  for (const [name, format, options] of cases)
    kernel(`are replayed as the kernel does: ${name}`, () => {
      const { copy, recovered } = dirtyImage('journal', format, options, BEFORE, AFTER);
      const hash = run('sha256sum', [copy]);
      const source = openFile(copy);
      const fs = ext.open(source);
      expect(fs.problems.join()).toMatch(/journal replayed in memory: [1-9]\d* transactions/);
      mounted(recovered, 'ro', (point) => {
        expect(differencesFromMount(fs.root, point)).toEqual([]);
        const u = fs.usage();
        expect([u.blockSize, u.blocks, u.free, u.available, u.files, u.freeFiles]).toEqual(kernelUsage(point));
      });
      fs.close();
      source.close();
      expect(run('sha256sum', [copy]), 'the image itself is unchanged').toBe(hash);
    });

  kernel('that go around their end many times are replayed', () => {
    const rounds = `for i in $(seq 60); do dd if=/dev/urandom of=r$((i % 7)) bs=64k count=2 status=none; sync -f .; done; rm r3; echo last > last; sync -f .`;
    const { copy, recovered } = dirtyImage(
      'wrap',
      ['-t', 'ext4', '-b', '1024', '-J', 'size=1'],
      'rw,data=journal',
      'true',
      rounds,
    );
    const fs = ext.open(openFile(copy));
    mounted(recovered, 'ro', (point) => expect(differencesFromMount(fs.root, point)).toEqual([]));
  });

  kernel('can be left alone: then the files are what lies on disk', () => {
    const { copy } = dirtyImage('ignored', ['-t', 'ext4'], 'rw', BEFORE, AFTER);
    const fs = ext.open(openFile(copy), { ignoreJournal: true });
    expect(fs.problems).toContain('the journal is not empty and was not replayed');
    mounted(copy, 'ro,noload', (point) => expect(differencesFromMount(fs.root, point)).toEqual([]));
  });

  const FSYNC = `S="python3 -c 'import os,sys;[os.fsync(os.open(p,os.O_RDONLY)) for p in sys.argv[1:]]'"; s() { eval "$S" "$@"; }; echo a > d/first; s d/first; `;
  const fastCases: readonly (readonly [string, string])[] = [
    ['new files', 'for i in 1 2 3 4 5; do echo $i > d/n$i; s d/n$i; done'],
    ['renamed, removed and longer files', 'mv old/o1 d/moved; s d/moved; rm old/o2; echo x >> old/o4; s old/o4'],
    ['a new directory with a file', 'mkdir d/sub; echo y > d/sub/y; s d/sub/y'],
    ['links made and taken away', 'ln old/o5 d/link5; s d/link5; rm old/h3; s old/o3'],
    ['holes punched and ends cut off', 'fallocate -p -o 200k -l 300k old/big; s old/big; truncate -s 700000 old/big; s old/big'],
    [
      'space reserved and partly written',
      'fallocate -l 1M d/p; s d/p; dd if=/dev/urandom of=d/p bs=50k count=3 seek=2 conv=notrunc status=none; s d/p',
    ],
  ];
  const withFastCommit = itIf(
    whyNoMount() === '' && hasTool('python3') && hasTool('mke2fs'),
    whyNoMount() || 'python3 or mke2fs not installed',
  );
  for (const [name, script] of fastCases)
    withFastCommit(`have their fast commits replayed: ${name}`, () => {
      const { copy, recovered } = dirtyImage('fast', ['-t', 'ext4', '-O', 'fast_commit'], 'rw', BEFORE, FSYNC + script);
      const fs = ext.open(openFile(copy));
      expect(fs.problems.join()).toMatch(/and [1-9]\d* fast-commit records/);
      mounted(recovered, 'ro', (point) => {
        // The kernel puts the time of its recovery on directories, may make them longer, and forgets to count a new one's block.
        const differences = differencesFromMount(fs.root, point, { skipTimesOf: 'directories' });
        expect(differences.filter((d) => !/^\/(d|old|d\/sub): (blocks|size)/.test(d))).toEqual([]);
      });
    });

  itNeeds('mke2fs')('on another device are named as what is missing, and can be ignored', () => {
    const image = join(dir, 'external.img');
    run('truncate', ['-s', '8M', image]);
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', image]);
    run('debugfs', ['-w', '-R', 'set_super_value feature_compat has_journal', image], { ok: [0, 1] });
    run('debugfs', ['-w', '-f', '-', image], {
      input: 'feature has_journal needs_recovery\nset_super_value journal_dev 0x801\nset_super_value journal_inum 0\n',
    });
    expect(() => ext.open(openFile(image))).toThrow(/its journal is on another device \(8:1\)/);
    expect(ext.open(openFile(image), { ignoreJournal: true }).root.kind).toBe('directory');
  });
});

describe('formats of mke2fs', () => {
  const formats: readonly (readonly string[])[] = [
    ['-t', 'ext2', '-r', '0'],
    ['-t', 'ext3', '-b', '2048'],
    ['-t', 'ext4', '-O', 'meta_bg,^resize_inode', '-b', '1024', '-g', '1024'],
    ['-t', 'ext4', '-O', 'sparse_super2,^resize_inode', '-b', '1024'],
    ['-t', 'ext4', '-O', '^flex_bg,^metadata_csum,uninit_bg', '-b', '1024', '-g', '2048'],
    ['-t', 'ext4', '-O', '^metadata_csum,^64bit,^uninit_bg', '-I', '1024'],
    ['-t', 'ext4', '-O', 'large_dir,mmp,orphan_file'],
    ['-t', 'ext4', '-O', 'bigalloc', '-C', '8192', '-b', '1024'],
    ['-t', 'ext4', '-O', '^extents,^64bit', '-b', '1024'],
  ];
  for (const format of formats)
    kernel(`agree with the kernel: ${format.join(' ')}`, () => {
      const image = join(dir, 'format.img');
      run('rm', ['-f', image]);
      run('truncate', ['-s', '48M', image]);
      run('mke2fs', ['-q', '-F', ...format, image]);
      const script = `mkdir -p a/b many; for i in $(seq 900); do echo $i > many/a-file-with-a-longer-name-$i; done; rm many/*5
dd if=/dev/urandom of=a/frag bs=7k count=40 status=none; for i in $(seq 0 3 400); do dd if=/dev/urandom of=a/holes bs=1k count=1 seek=$((i*9)) conv=notrunc status=none; done
ln -s "$(printf '%080d' 1)" a/l; mknod a/n b 300 5 || true`;
      mounted(image, 'rw', (point) => run('sh', ['-ec', script], { cwd: point }));
      const fs = ext.open(openFile(image));
      expect(fs.problems).toEqual([]);
      mounted(image, 'ro', (point) => {
        expect(differencesFromMount(fs.root, point)).toEqual([]);
        const u = fs.usage();
        expect([u.blockSize, u.blocks, u.free, u.available, u.files, u.freeFiles]).toEqual(kernelUsage(point));
        for (const e of entriesOf(at(fs.root, 'many'))) expect(at(fs.root, 'many').child(e.name)?.ino).toBe(e.ino);
      });
    });

  itNeeds('mke2fs', 'debugfs')('find names through every hash mke2fs knows, signed and unsigned', () => {
    const folder = join(dir, 'hashes');
    run('mkdir', ['-p', join(folder, 'd')]);
    for (let i = 0; i < 800; i++) writeFileSync(join(folder, 'd', `n\u00fc\u2026-${'x'.repeat(i % 60)}-${i}`), '');
    for (const hash of ['legacy', 'half_md4', 'tea'])
      for (const flags of ['1', '2']) {
        const image = join(dir, 'hash.img');
        run('rm', ['-f', image]);
        run('truncate', ['-s', '16M', image]);
        run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '1024', '-N', '4096', '-d', folder, image]);
        run('debugfs', ['-w', '-f', '-', image], {
          input: `set_super_value def_hash_version ${hash}\nset_super_value flags ${flags}\n`,
        });
        // e2fsck -D writes the index with the hash now set.
        run('e2fsck', ['-fyD', image], { ok: [0, 1] });
        const fs = ext.open(openFile(image));
        const d = at(fs.root, 'd');
        expect(run('debugfs', ['-R', 'htree_dump d', image])).toMatch(/Number of entries/);
        for (const e of entriesOf(d)) expect(d.child(e.name)?.ino, `${hash} ${flags} ${e.name}`).toBe(e.ino);
        expect(fs.problems, 'the index was good').toEqual([]);
        fs.close();
      }
  });

  itNeeds('mke2fs', 'debugfs')('fold case in directories that ask for it', () => {
    const image = join(dir, 'casefold.img');
    run('truncate', ['-s', '8M', image]);
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', 'casefold', '-E', 'encoding=utf8', image]);
    run('debugfs', ['-w', '-f', '-', image], {
      input: 'mkdir d\nset_inode_field d flags 0x40080000\nmkdir d/Straße\nmkdir d/ΣΑΣ\nmkdir plain\nmkdir plain/X\n',
    });
    const fs = ext.open(openFile(image));
    expect(at(fs.root, 'd').child('STRASSE')?.kind).toBe('directory');
    expect(at(fs.root, 'd').child('σας')?.kind).toBe('directory');
    expect(at(fs.root, 'd').child('other')).toBeUndefined();
    expect(at(fs.root, 'plain').child('x')).toBeUndefined();
  });
});

describe('probing ext', () => {
  it('takes nothing that is too short, empty or foreign, and says so when opened', () => {
    for (const size of [0, 1, 1080, 4096]) {
      expect(ext.probe(new MemorySource(size))).toBeUndefined();
      expect(() => ext.open(new MemorySource(size))).toThrow(expect.objectContaining({ code: 'wrong-format' }));
    }
  });
});
