import type { BlockSource } from '../../block/source.js';
import { corrupt, GuestError } from '../../core/errors.js';
import type { FileSystem, FileSystemDriver, Signature } from '../driver.js';
import { logState } from './log.js';
import { XfsNode } from './node.js';
import { INCOMPAT } from './structs.js';
import { probeSuper, readSuper } from './superblock.js';
import { usageOf } from './usage.js';
import { Volume } from './volume.js';

/** XFS, versions 4 and 5. */
export const xfs: FileSystemDriver = {
  name: 'xfs',
  probe: (source: BlockSource): Signature | undefined => probeSuper(source),
  open,
};

function open(source: BlockSource): FileSystem {
  const problems: string[] = [];
  const sb = readSuper(source, problems);
  const volume = new Volume(source, sb, problems);
  if (sb.dblocks * sb.blockSize > source.size)
    problems.push(`the filesystem has ${sb.dblocks} blocks of ${sb.blockSize} bytes, its device only ${source.size} bytes`);
  if (sb.incompat & INCOMPAT.needsRepair) problems.push('the filesystem is marked as in need of xfs_repair');
  const clean = lookAtLog(volume);
  const root = new XfsNode(volume, sb.rootIno);
  if (root.kind !== 'directory') throw corrupt(`xfs: the root inode is a ${root.kind}, not a directory`);
  return {
    signature: sb.signature,
    root,
    caseSensitive: !sb.asciiCi,
    problems,
    usage: () => usageOf(volume, sb.secondary || !sb.lazyCount || !clean),
    close: () => volume.close(),
  };
}

/** True when everything is in its place; otherwise why it may not be is among the problems. */
function lookAtLog(volume: Volume): boolean {
  const { problems, sb } = volume;
  if (sb.logStart === 0) {
    problems.push('the log is on another device: what it holds that is not yet in its place is not seen');
    return true;
  }
  try {
    const state = logState(volume);
    if (!state.clean)
      problems.push(`the log is dirty (${state.bytes} bytes to be recovered); files are read as they lie on disk`);
    return state.clean;
  } catch (e) {
    if (!(e instanceof GuestError)) throw e;
    problems.push(`the log cannot be read: ${e.message}`);
    return false;
  }
}
