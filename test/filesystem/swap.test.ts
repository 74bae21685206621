import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { swap } from '../../lib/filesystem/swap/index.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const UUID = '01234567-89ab-4cde-8f01-23456789abcd';

describe('swap space', () => {
  itIf(hasSharedData(), noSharedData)('has the UUID and label that blkid gives', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'swap')) {
      const v = e.expected.blkid.values;
      expect(swap.probe(openFile(sharedFile(e.name)))).toEqual({ type: 'swap', uuid: v.UUID, label: v.LABEL });
    }
  });

  itNeeds('mkswap', 'blkid')('is recognised for every page size, and as hibernated, as blkid does', () => {
    for (const page of [4096, 8192, 16384, 65536]) {
      const image = join(dir, `swap-${page}`);
      run('truncate', ['-s', '4M', image]);
      run('mkswap', ['-p', String(page), '-L', 'my swap', '-U', UUID, image]);
      expect(swap.probe(openFile(image))).toEqual({ type: 'swap', uuid: UUID, label: 'my swap' });
      for (const mark of ['S1SUSPEND\0', 'S2SUSPEND\0', 'ULSUSPEND\0', 'LINHIB0001']) {
        run('dd', [`of=${image}`, 'bs=1', `seek=${page - 10}`, 'conv=notrunc', 'status=none'], { input: mark });
        const value = (name: string) => run('blkid', ['-p', '-o', 'value', '-s', name, image]).trim();
        expect([mark, swap.probe(openFile(image))]).toEqual([
          mark,
          { type: value('TYPE'), uuid: value('UUID'), label: value('LABEL') },
        ]);
      }
    }
  });

  it('has no files', () => {
    expect(() => swap.open(new MemorySource(8192))).toThrow(
      expect.objectContaining({ code: 'unsupported', message: 'swap space has no files' }),
    );
  });

  it('is not seen in what is empty, short or of another version', () => {
    for (const size of [0, 10, 4095, 4096, 100_000]) expect(swap.probe(new MemorySource(size))).toBeUndefined();
    const b = new Uint8Array(8192);
    b.set(Buffer.from('SWAPSPACE2'), 4086);
    expect(swap.probe(new MemorySource(b))).toBeUndefined();
    b[1024] = 1;
    expect(swap.probe(new MemorySource(b)), 'no pages').toBeUndefined();
    b[1028] = 1;
    expect(swap.probe(new MemorySource(b))).toEqual({ type: 'swap' });
  });
});
