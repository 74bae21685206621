/** What the kernel here may not mount (version 4, names without case, large blocks): images made by mkfs.xfs and xfs_db. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { type FileSystem, kindOfMode } from '../../lib/filesystem/driver.js';
import { nameHash } from '../../lib/filesystem/xfs/hash.js';
import { at, contentsOf, namesOf } from '../conformance/filesystem.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { makeXfs, namesNotFound, withXfs } from './xfs-tree.js';

const test = itNeeds('mkfs.xfs', 'xfs_db');
/** mkfs.xfs 6.1 forgets the header that version 5 wants before a long link's text: nobody can read those. */
const longTarget = (v5: boolean) => `/${'very-long/'.repeat(v5 ? 20 : 70)}end`;
const MANY = 1500;

/** A prototype for `mkfs.xfs -p`: files between the names of a directory, so that the directory lies in many pieces. */
function prototype(dir: string, v5: boolean): string {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'small'), 'contents of a small file\n');
  writeFileSync(join(dir, 'large'), Buffer.from(Array.from({ length: 300_001 }, (_, i) => (i * 7) ^ (i >> 8))));
  const lines = ['/', '0 0', 'd--755 0 0'];
  for (const count of [2, 30, 400]) {
    lines.push(`dir-${count} d--751 5 6`);
    for (let i = 0; i < count; i++) lines.push(`entry-number-${i} p--644 0 0`);
    lines.push('$');
  }
  lines.push('many d--755 0 0');
  for (let i = 0; i < MANY; i++) lines.push(`a-name-that-needs-some-room-${i} ---644 0 0 ${join(dir, 'small')}`);
  lines.push('$');
  lines.push(`large ---640 1000 100000 ${join(dir, 'large')}`);
  lines.push('link l--777 0 0 ../target', `long-link l--777 0 0 ${longTarget(v5)}`);
  lines.push('block b--660 0 6 8 17', 'char c--620 0 5 4 64', 'MixedCase ---600 0 0 ' + join(dir, 'small'), '$');
  writeFileSync(join(dir, 'prototype'), `${lines.join('\n')}\n`);
  return join(dir, 'prototype');
}

const VARIANTS: readonly { readonly name: string; readonly options: readonly string[]; readonly ignoresCase?: true }[] = [
  { name: 'version 4', options: ['-m', 'crc=0'] },
  { name: 'version 4, 512-byte blocks', options: ['-m', 'crc=0', '-b', 'size=512', '-n', 'size=4096'] },
  { name: 'version 4, names without types, version 1 log', options: ['-m', 'crc=0', '-n', 'ftype=0', '-l', 'version=1'] },
  { name: 'version 4, names without case', options: ['-m', 'crc=0', '-n', 'version=ci', '-b', 'size=1024'], ignoresCase: true },
  { name: 'version 5, names without case', options: ['-n', 'version=ci'], ignoresCase: true },
  { name: 'version 5, 1024-byte blocks', options: ['-b', 'size=1024'] },
  { name: 'version 5, 65536-byte blocks', options: ['-b', 'size=65536'] },
  { name: 'version 5, 16384-byte blocks in sectors of 4096', options: ['-b', 'size=16384', '-s', 'size=4096'] },
];

/** "core.mode" and so on of one inode, as xfs_db prints them. */
function inodeFields(image: string, ino: bigint): Map<string, string> {
  const out = run('xfs_db', ['-r', '-c', `inode ${ino}`, '-c', 'print', image]);
  return new Map(
    out.split('\n').flatMap((l) => {
      const m = /^(\S+) = (.*)$/.exec(l);
      return m === null ? [] : [[m[1]!, m[2]!] as const];
    }),
  );
}

function sameAsXfsDb(fs: FileSystem, image: string, path: string): void {
  const node = at(fs.root, path);
  const s = node.stat();
  const f = inodeFields(image, node.ino);
  expect(
    [s.mode.toString(8), s.links, s.uid, s.gid, s.size, s.blocks].map(String),
    `${path}: mode, links, owner, group, size, blocks`,
  ).toEqual([
    f.get('core.mode')!.replace(/^0/, ''),
    f.get('core.nlinkv2') ?? f.get('core.nlinkv1'),
    f.get('core.uid'),
    f.get('core.gid'),
    f.get('core.size'),
    String(Number(f.get('core.nblocks')) * (fs.usage().blockSize / 512)),
  ]);
  expect(kindOfMode(s.mode)).toBe(node.kind);
}

describe('xfs made by mkfs.xfs', () => {
  const dir = temporaryFolder();
  for (const [i, { name, options, ignoresCase }] of VARIANTS.entries())
    test(`reads ${name}`, () => {
      const image = join(dir, `variant-${i}`);
      const files = join(dir, 'files');
      const v5 = !options.includes('crc=0');
      makeXfs(image, [...options, '-L', 'twelve chars', '-p', prototype(files, v5)], '400M');
      // Values in the inode, in a leaf, and in blocks of their own; then so many that a tree is needed.
      const names = Array.from({ length: 60 }, (_, n) =>
        [
          ['-u', 'user'],
          ['-r', 'trusted'],
          ['-s', 'security'],
        ][n % 3]!.concat(`n-${n}`),
      );
      const sizes = [4, 30, 900, 70, 20000, 65536];
      const size = (n: number) => (n < sizes.length ? sizes[n]! : 400);
      const set = names.flatMap(([flag, , attribute], n) => [
        '-c',
        'path /large',
        '-c',
        `attr_set ${flag} -v ${size(n)} ${attribute}`,
      ]);
      run('xfs_db', ['-x', ...set, image]);
      withXfs(image, (fs) => {
        expect(fs.problems).toEqual([]);
        expect(fs.signature).toEqual({
          type: 'xfs',
          label: 'twelve chars',
          uuid: /UUID = (\S+)/.exec(run('xfs_db', ['-r', '-c', 'uuid', image]))![1],
        });
        expect(fs.caseSensitive).toBe(ignoresCase !== true);
        expect(namesOf(fs.root)).toEqual(
          ['MixedCase', 'block', 'char', 'dir-2', 'dir-30', 'dir-400', 'large', 'link', 'long-link', 'many'].sort(),
        );
        for (const count of [2, 30, 400])
          expect(namesOf(at(fs.root, `dir-${count}`))).toEqual(
            Array.from({ length: count }, (_, n) => `entry-number-${n}`).sort(),
          );
        expect(namesOf(at(fs.root, 'many')).length).toBe(MANY);
        expect(namesNotFound(fs.root)).toEqual([]);
        expect(at(fs.root, 'many').child('a-name-that-needs-some-room-')).toBeUndefined();
        const small = Buffer.from(contentsOf(at(fs.root, `many/a-name-that-needs-some-room-${MANY - 1}`))).toString();
        expect(small).toBe('contents of a small file\n');
        expect(Buffer.compare(contentsOf(at(fs.root, 'large')), readFileSync(join(files, 'large')))).toBe(0);
        expect(at(fs.root, 'link').target()).toBe('../target');
        expect(at(fs.root, 'long-link').target()).toBe(longTarget(v5));
        expect(at(fs.root, 'block').stat().rdev).toEqual({ major: 8, minor: 17 });
        expect(at(fs.root, 'char').stat().rdev).toEqual({ major: 4, minor: 64 });
        for (const path of ['', 'dir-2', 'dir-400', 'many', 'large', 'link', 'long-link', 'block']) sameAsXfsDb(fs, image, path);
        expect([...at(fs.root, 'large').attributes()].map(([k, v]) => [k, Buffer.from(v).toString('latin1')]).sort()).toEqual(
          names.map(([, space, attribute], n) => [`${space}.${attribute}`, 'v'.repeat(size(n))]).sort(),
        );
        expect(fs.root.child('mixedcASE')?.ino).toBe(ignoresCase ? at(fs.root, 'MixedCase').ino : undefined);
        if (ignoresCase) expect(at(fs.root, 'DIR-400').child('Entry-NUMBER-399')?.kind).toBe('fifo');
      });
    });

  test('hashes names as xfs_db does', () => {
    const image = join(dir, 'hash');
    makeXfs(image, []);
    const names = ['a', 'ab', 'abc', 'abcd', 'abcde', 'lost+found', 'x'.repeat(255)];
    const theirs = run('xfs_db', ['-r', ...names.flatMap((n) => ['-c', `hash ${n}`]), image]);
    expect(names.map((n) => `0x${nameHash(Buffer.from(n)).toString(16)}`)).toEqual(theirs.trim().split('\n'));
  });
});
