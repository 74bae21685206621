import { decodeName, encodeName } from '../../core/text.js';
import { type Directory, indexCountOffset } from './directory.js';
import { noKeyName } from './encrypted-name.js';
import { HASH, nameHash } from './hash.js';
import { COMPAT, INCOMPAT } from './structs.js';

const HASH_MASK = 0xfffffffe;
const BLOCK_MASK = 0x0fffffff;

/** The inode number a directory gives a name, or undefined. */
export function lookup(directory: Directory, name: string): number | undefined {
  const { inode } = directory;
  const changed = directory.changes?.get(name);
  if (changed !== undefined) return changed.ino === 0 ? undefined : changed.ino;
  if (inode.has('encrypt')) return linear(directory, (b, at, n) => noKeyName(directory, b, at, n) === name);
  const wanted = encodeName(name);
  const same = (b: Uint8Array, at: number, n: number) => {
    if (n !== wanted.length) return false;
    for (let i = 0; i < n; i++) if (b[at + i] !== wanted[i]) return false;
    return true;
  };
  const folding = inode.has('casefold') && (inode.volume.sb.incompat & INCOMPAT.casefold) !== 0;
  if (folding) {
    // The index is over folded names, and the exact spelling has no precedence in the kernel either: names are unique when folded.
    const folded = fold(name);
    return linear(directory, (b, at, n) => same(b, at, n) || fold(decodeName(b.subarray(at, at + n))) === folded);
  }
  if (wanted.length > 255) return undefined;
  if (inode.has('index') && inode.volume.sb.compat & COMPAT.dirIndex && !directory.isInline) {
    const found = indexed(directory, wanted, same);
    if (found !== 'damaged') return found;
    inode.volume.report(`directory inode ${inode.ino}: its index is damaged, names are looked up one by one`);
  }
  return linear(directory, same);
}

type Same = (block: Uint8Array, at: number, length: number) => boolean;

function scanBlock(directory: Directory, block: Uint8Array, same: Same): number | undefined {
  let found: number | undefined;
  directory.scan(block, (b, at, length, ino) => {
    if (!same(b, at, length)) return false;
    found = ino;
    return true;
  });
  return found;
}

function linear(directory: Directory, same: Same): number | undefined {
  for (const block of directory.blocks()) {
    const found = scanBlock(directory, block, same);
    if (found !== undefined) return found;
  }
  return undefined;
}

interface Frame {
  readonly view: DataView;
  readonly at: number;
  readonly count: number;
  index: number;
}

/** Down the hash tree; 'damaged' when the tree cannot be trusted, as the kernel then reads all blocks. */
function indexed(directory: Directory, wanted: Uint8Array, same: Same): number | undefined | 'damaged' {
  const { sb } = directory.inode.volume;
  const root = directory.block(0);
  if (root === undefined || indexCountOffset(root) !== 0x20) return 'damaged';
  const levels = root[0x1e]!;
  let version = root[0x1c]!;
  if (version < HASH.unsigned && sb.hashUnsigned) version += HASH.unsigned;
  const hash = nameHash(wanted, version, sb.hashSeed)?.major;
  if (hash === undefined || levels > (sb.incompat & INCOMPAT.largedir ? 2 : 1)) return 'damaged';
  const frames: Frame[] = [];
  for (let block: Uint8Array | undefined = root, at = 0x20, level = 0; ; level++, at = 8) {
    const frame = block === undefined ? undefined : frameOf(block, at);
    if (frame === undefined) return 'damaged';
    // The first entry has no hash of its own: it takes all that is below the second.
    let lo = 1;
    let hi = frame.count;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (frame.view.getUint32(frame.at + mid * 8, true) <= hash) lo = mid + 1;
      else hi = mid;
    }
    frame.index = lo - 1;
    frames.push(frame);
    if (level === levels) break;
    block = directory.block(blockAt(frame));
  }
  // Bounded by the leaves: a collision of hashes may go on in the next block.
  for (let visited = 0; visited <= directory.blockCount; visited++) {
    const leaf = directory.block(blockAt(frames[levels]!));
    if (leaf === undefined) return 'damaged';
    const found = scanBlock(directory, leaf, same);
    if (found !== undefined) return found;
    const next = advance(directory, frames, hash);
    if (next !== true) return next;
  }
  return 'damaged';
}

function frameOf(block: Uint8Array, at: number): Frame | undefined {
  const view = new DataView(block.buffer, block.byteOffset, block.length);
  const limit = view.getUint16(at, true);
  const count = view.getUint16(at + 2, true);
  if (indexCountOffset(block) !== at || count === 0 || count > limit || at + limit * 8 > block.length) return undefined;
  return { view, at, count, index: 0 };
}

const blockAt = (f: Frame): number => f.view.getUint32(f.at + f.index * 8 + 4, true) & BLOCK_MASK;

/** Steps to the next leaf if names with this hash can be there: true; undefined when not. */
function advance(directory: Directory, frames: readonly Frame[], hash: number): true | undefined | 'damaged' {
  let level = frames.length - 1;
  while (level >= 0 && frames[level]!.index + 1 >= frames[level]!.count) level--;
  if (level < 0) return undefined;
  const f = frames[level]!;
  f.index++;
  if ((f.view.getUint32(f.at + f.index * 8, true) & HASH_MASK) >>> 0 !== hash) return undefined;
  for (; level + 1 < frames.length; level++) {
    const block = directory.block(blockAt(frames[level]!));
    const below = block === undefined ? undefined : frameOf(block, 8);
    if (below === undefined) return 'damaged';
    (frames as Frame[])[level + 1] = below;
  }
  return true;
}

/** Unicode case folding near enough to the kernel's: decomposed, full folding ("ß" is "ss"). */
function fold(s: string): string {
  return s.normalize('NFD').toUpperCase().toLowerCase().replaceAll('ς', 'σ').normalize('NFD');
}
