import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { differencesFromMount, kernelUsage, mounted, whyNoMount } from '../conformance/filesystem.js';
import { hasTool, itIf } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { fillWithFormats, kernelXfs, namesNotFound, withXfs } from './xfs-tree.js';

const missing = ['mkfs.xfs', 'setfattr', 'setfacl'].find((t) => !hasTool(t));
const test = itIf(missing === undefined && whyNoMount() === '', missing ? `${missing} not installed` : whyNoMount());

/** Every feature mkfs can turn on and the kernel here can mount. */
const MATRIX: readonly {
  readonly name: string;
  readonly options: readonly string[];
  readonly block?: number;
  readonly size?: string;
}[] = [
  { name: '4096-byte blocks, four groups', options: [] },
  {
    name: '1024-byte blocks, no bigtime, no sparse inodes',
    options: ['-b', 'size=1024', '-m', 'bigtime=0,reflink=0', '-i', 'size=512,sparse=0'],
    block: 1024,
  },
  {
    name: '2048-byte inodes, directory blocks of 64 KiB, many groups',
    options: ['-i', 'size=2048', '-n', 'size=65536', '-d', 'agcount=9'],
    size: '800M',
  },
  {
    name: 'large extent counters, reverse maps, sectors of 4096 bytes',
    options: ['-i', 'nrext64=1', '-m', 'rmapbt=1', '-s', 'size=4096', '-n', 'size=8192'],
  },
  {
    name: 'no free inode tree, log stripe unit',
    options: ['-m', 'finobt=0,inobtcount=0', '-l', 'su=32768', '-b', 'size=2048'],
    block: 2048,
  },
];

describe('xfs written by the kernel', () => {
  const dir = temporaryFolder();
  for (const [i, { name, options, block, size }] of MATRIX.entries())
    test(`reads all formats as the kernel does: ${name}`, () => {
      const image = join(dir, `matrix-${i}`);
      const fill = (point: string) => fillWithFormats(point, block ?? 4096, !options.join().includes('reflink=0'));
      kernelXfs(image, options, fill, size ?? '320M');
      withXfs(image, (fs) => {
        expect(fs.problems).toEqual([]);
        mounted(image, 'ro,norecovery', (point) => {
          expect(differencesFromMount(fs.root, point)).toEqual([]);
          const u = fs.usage();
          expect([u.blockSize, u.blocks, u.free, u.available, u.files, u.freeFiles]).toEqual(kernelUsage(point));
        });
        expect(namesNotFound(fs.root)).toEqual([]);
      });
    }, 60_000);
});
