import { type BlockSource, readUpTo } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import type { FileSystem, FileSystemDriver, OpenOptions, Signature } from '../driver.js';
import { ExtNode } from './node.js';
import { INCOMPAT, ROOT_INO, SUPER_OFFSET } from './structs.js';
import { readSuper, signatureOf } from './superblock.js';
import { usageOf } from './usage.js';
import { Volume } from './volume.js';

/** ext2, ext3 and ext4. */
export const ext: FileSystemDriver = {
  name: 'ext',
  probe: (source: BlockSource): Signature | undefined => signatureOf(readUpTo(source, SUPER_OFFSET, 1024)),
  open,
};

function open(source: BlockSource, options: OpenOptions = {}): FileSystem {
  const problems: string[] = [];
  const sb = readSuper(source, problems);
  if (sb.incompat & INCOMPAT.recover && options.ignoreJournal) problems.push('the journal is not empty and was not replayed');
  const volume = new Volume(source, sb, problems);
  const root = new ExtNode(volume, ROOT_INO);
  if (root.kind !== 'directory') throw new GuestError('corrupt', `ext: the root inode is a ${root.kind}, not a directory`);
  return {
    signature: sb.signature,
    root,
    caseSensitive: true,
    problems,
    usage: () => usageOf(volume),
    close: () => volume.cache.close(),
  };
}
