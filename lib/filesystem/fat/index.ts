import { type BlockSource, readUpTo } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import type { FileSystem, FileSystemDriver, Signature } from '../driver.js';
import { geometryOf } from './geometry.js';
import { signatureOf } from './label.js';
import { FatNode } from './node.js';
import { Volume } from './volume.js';

/** FAT12, FAT16 and FAT32 with long names. */
export const fat: FileSystemDriver = {
  name: 'fat',
  probe(source: BlockSource): Signature | undefined {
    const g = geometryOf(readUpTo(source, 0, 512));
    return g === undefined ? undefined : signatureOf(source, g);
  },
  open,
};

function open(source: BlockSource): FileSystem {
  const g = geometryOf(readUpTo(source, 0, 512));
  if (g === undefined) throw new GuestError('wrong-format', 'no FAT boot sector at 0x0', { offset: 0 });
  const volume = new Volume(source, g);
  const clusters = g.clusterEnd - 2;
  if (g.dataStart + clusters * g.clusterSize > source.size)
    volume.report(
      `the filesystem needs ${g.dataStart + clusters * g.clusterSize} bytes, its device has only ${source.size} bytes`,
    );
  return {
    signature: signatureOf(source, g) ?? { type: 'vfat' },
    root: new FatNode(volume, undefined),
    caseSensitive: false,
    problems: volume.problems,
    usage() {
      const free = volume.countFree();
      return { blockSize: g.clusterSize, blocks: clusters, free, available: free, files: 0, freeFiles: 0 };
    },
    close: () => volume.cache.close(),
  };
}
