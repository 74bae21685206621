import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { ext } from '../../lib/filesystem/ext/index.js';
import { at, contentsByRuns, contentsOf, namesOf } from '../conformance/filesystem.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const FORMATS = [
  ['-t', 'ext2', '-b', '1024'],
  ['-t', 'ext3', '-b', '4096', '-I', '128'],
  ['-t', 'ext4', '-b', '1024', '-O', 'inline_data'],
  ['-t', 'ext4', '-b', '2048', '-O', 'meta_bg,^resize_inode'],
  ['-t', 'ext4', '-O', 'bigalloc,^has_journal', '-C', '8192', '-b', '1024'],
];
const name = fc.stringMatching(/^[a-zA-Z0-9 äöü日本_-]{1,40}$/).filter((n) => Buffer.byteLength(n) <= 100);
const item = fc.record({
  name,
  /** Size of a file, or a link's text, or a directory with entries. */
  kind: fc.constantFrom('file', 'file', 'link', 'directory'),
  // Around the sizes where the way of keeping changes: inline, one block, 12 blocks, one indirect block.
  size: fc.constantFrom(0, 1, 59, 60, 61, 160, 161, 1023, 1024, 1025, 12_288, 12_289, 274_432, 274_433, 400_000),
  children: fc.uniqueArray(name, { maxLength: 40, selector: (n) => n }),
});
const tree = fc.uniqueArray(item, { maxLength: 25, selector: (i) => i.name });

describe('random trees written by mke2fs', () => {
  itNeeds('mke2fs')(
    'are read as they were',
    () => {
      let round = 0;
      fc.assert(
        fc.property(tree, fc.constantFrom(...FORMATS), (items, format) => {
          const folder = join(dir, `tree-${round}`);
          const image = join(dir, `image-${round++}`);
          mkdirSync(folder);
          for (const i of items) {
            const path = join(folder, i.name);
            if (i.kind === 'link') symlinkSync('l'.repeat(Math.max(1, Math.min(i.size, 1000))), path);
            else if (i.kind === 'file')
              writeFileSync(
                path,
                Uint8Array.from({ length: i.size }, (_, k) => (k * 31 + (k >> 9) + 1) & 255),
              );
            else {
              mkdirSync(path);
              for (const c of i.children) writeFileSync(join(path, c), c);
            }
          }
          run('truncate', ['-s', '24M', image]);
          run('mke2fs', ['-q', '-F', '-N', '2048', ...format, '-d', folder, image]);
          const source = openFile(image);
          const fs = ext.open(source);
          expect(namesOf(fs.root).filter((n) => n !== 'lost+found')).toEqual(items.map((i) => i.name).sort());
          for (const i of items) {
            const node = at(fs.root, i.name);
            if (i.kind === 'link') expect(node.target()).toBe('l'.repeat(Math.max(1, Math.min(i.size, 1000))));
            else if (i.kind === 'directory') expect(namesOf(node)).toEqual([...i.children].sort());
            else {
              const bytes = readFileSync(join(folder, i.name));
              expect(Buffer.compare(contentsOf(node), bytes)).toBe(0);
              expect(Buffer.compare(contentsByRuns(node, image), bytes)).toBe(0);
              expect(node.stat().mtime.sec).toBe(Math.floor(statSync(join(folder, i.name)).mtimeMs / 1000));
            }
          }
          expect(fs.problems).toEqual([]);
          source.close();
          rmSync(folder, { recursive: true });
          rmSync(image);
        }),
        { numRuns: 25, seed: 20241124 },
      );
    },
    60_000,
  );
});
