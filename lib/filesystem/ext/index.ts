import { Overlay } from '../../block/overlay.js';
import { type BlockSource, readUpTo } from '../../block/source.js';
import { GuestError, unsupported } from '../../core/errors.js';
import type { FileSystem, FileSystemDriver, OpenOptions, Signature } from '../driver.js';
import { fastChanges } from './fast-commit.js';
import { FastReplay } from './fast-replay.js';
import { type Replay, replayJournal } from './journal.js';
import { ExtNode } from './node.js';
import { INCOMPAT, RO_COMPAT, ROOT_INO, SUPER_OFFSET } from './structs.js';
import { readSuper, type Super, signatureOf } from './superblock.js';
import { usageOf } from './usage.js';
import { Volume } from './volume.js';

/** ext2, ext3 and ext4. */
export const ext: FileSystemDriver = {
  name: 'ext',
  probe: (source: BlockSource): Signature | undefined => signatureOf(readUpTo(source, SUPER_OFFSET, 1024)),
  open,
};

function open(given: BlockSource, options: OpenOptions = {}): FileSystem {
  const problems: string[] = [];
  const found = readSuper(given, problems);
  if (found.blocks * found.blockSize > given.size)
    problems.push(`the filesystem has ${found.blocks} blocks of ${found.blockSize} bytes, its device only ${given.size} bytes`);
  const overlay = found.incompat & INCOMPAT.recover && !options.ignoreJournal ? new Overlay(given) : undefined;
  if (found.incompat & INCOMPAT.recover && options.ignoreJournal) problems.push('the journal is not empty and was not replayed');
  const volume = overlay === undefined ? new Volume(given, found, problems) : recover(given, found, overlay, problems);
  const { sb } = volume;
  if (sb.lastOrphan !== 0 || sb.roCompat & RO_COMPAT.orphanPresent)
    problems.push('deleted files that were still open are not cleaned up');
  const root = new ExtNode(volume, ROOT_INO, 0);
  if (root.kind !== 'directory') throw new GuestError('corrupt', `ext: the root inode is a ${root.kind}, not a directory`);
  return {
    signature: sb.signature,
    root,
    caseSensitive: true,
    problems,
    usage: () => usageOf(volume),
    close: () => {
      volume.cache.close();
      overlay?.close();
    },
  };
}

/** The filesystem as it is once its journal has been replayed, in memory. */
function recover(given: BlockSource, before: Super, overlay: Overlay, problems: string[]): Volume {
  if (before.journalInum === 0 && before.journalDev !== 0)
    throw unsupported(
      `ext: the filesystem was not unmounted and its journal is on another device (${before.journalDev >>> 8}:${before.journalDev & 255}); it can be read as it is when the journal is ignored`,
    );
  const stale = new Volume(given, before, problems);
  let replay: Replay;
  try {
    replay = replayJournal(stale, overlay);
  } catch (e) {
    // Without the journal most of the filesystem can still be read; what is newest may be missing or half there.
    if (!(e instanceof GuestError) || e.code === 'unsupported') throw e;
    problems.push(`the journal cannot be replayed: ${e.message}`);
    return stale;
  }
  // The replay may have brought a newer superblock.
  const volume = new Volume(overlay, before.fromGroup === 0 ? readSuper(overlay, problems) : before, problems);
  const changes = fastChanges(replay.log, replay.nextSequence, (text) => volume.report(text));
  if (changes.length > 0) {
    const fast = new FastReplay(volume, overlay);
    fast.apply(changes);
    volume.changes = fast.changes;
    volume.forget();
  }
  const fastText = changes.length > 0 ? ` and ${changes.length} fast-commit records` : '';
  problems.push(`journal replayed in memory: ${replay.transactions} transactions, ${replay.blocks} blocks${fastText}`);
  return volume;
}
