import { corrupt, hex } from '../../core/errors.js';
import { cString } from '../../core/text.js';
import { mapOf } from './extents.js';
import type { Inode } from './inode.js';
import { FORMAT, REMOTE_HEADER, REMOTE_LAYOUT, SYMLINK_MAGIC } from './structs.js';

/** XFS_SYMLINK_MAXLEN. */
const LONGEST = 1024;

/** The text of a link, in the inode or in blocks of its own. */
export function linkText(inode: Inode): string {
  inode.requireKind('symlink', 'not-a-symlink');
  const { size } = inode;
  if (size === 0 || size > LONGEST) throw inode.corrupt(`a link with a text of ${size} bytes`);
  const fork = inode.dataFork;
  if (fork.format !== FORMAT.local) return cString(remoteText(inode, size));
  if (size > fork.bytes.length) throw inode.corrupt(`a link of ${size} bytes, the inode has room for ${fork.bytes.length}`);
  return cString(fork.bytes.subarray(0, size));
}

function remoteText(inode: Inode, size: number): Uint8Array {
  const { volume } = inode;
  const { blockSize } = volume;
  const map = mapOf(inode, inode.dataFork);
  const text = new Uint8Array(size);
  const header = volume.sb.v5 ? REMOTE_HEADER : 0;
  const perBlock = blockSize - header;
  for (let done = 0, logical = 0; done < size; ) {
    const piece = map.find(logical);
    if (piece.at < 0) throw inode.corrupt(`the text of the link has a hole at block ${logical}`);
    // Each extent has one header, however many blocks it spans.
    const blocks = Math.min(piece.count, Math.ceil((size + header) / blockSize), Math.ceil(LONGEST / perBlock) + 1);
    const bytes = volume.cache.view(piece.at, Math.min(blocks, piece.count) * blockSize);
    const n = Math.min(size - done, bytes.length - header);
    if (volume.sb.v5) {
      const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const bad = (problem: string) =>
        corrupt(`xfs: link inode ${inode.ino}, text at ${hex(piece.at)}: ${problem}`, { offset: piece.at });
      if (d.getUint32(0) !== SYMLINK_MAGIC) throw bad(`magic is ${hex(d.getUint32(0))}, expected ${hex(SYMLINK_MAGIC)}`);
      volume.verify(bytes, piece.at, REMOTE_LAYOUT, inode.ino, 'link text');
      if (d.getUint32(4) !== done || d.getUint32(8) !== n)
        throw bad(`holds ${d.getUint32(8)} bytes from ${d.getUint32(4)}, expected ${n} from ${done}`);
    }
    text.set(bytes.subarray(header, header + n), done);
    done += n;
    logical = piece.logical + blocks;
  }
  return text;
}
