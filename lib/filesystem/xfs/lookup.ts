import { encodeName } from '../../core/text.js';
import { firstNotBelow, type HashLeaf, HashTree } from './dabtree.js';
import type { DataBlock, Directory } from './directory.js';
import { foldAscii, foldedHash, foldLatin1, nameHash } from './hash.js';
import { DIR_LEAF_OFFSET, DIR_LEAF1_MAGIC, DIR_LEAFN_MAGIC } from './structs.js';

/** The inode number a directory gives a name, or undefined. */
export function lookup(directory: Directory, name: string): number | undefined {
  const wanted = encodeName(name);
  if (wanted.length === 0 || wanted.length > 255) return undefined;
  const search = new Search(wanted, directory.inode.volume.sb.asciiCi);
  if (directory.isShort) {
    if (name === '.') return directory.inode.ino;
    const parent = directory.scanShort((b, at, n, ino) => search.offer(b, at, n, ino));
    return name === '..' ? parent : search.result;
  }
  const first = directory.block(0);
  if (first === undefined) throw directory.inode.corrupt('a directory without its first block');
  for (const hash of search.hashes()) {
    if (first.leaf !== undefined) inBlock(directory, first, first.leaf, hash, search);
    else inTree(directory, hash, search);
    if (search.result !== undefined) break;
  }
  return search.result;
}

/** What is looked for, and what was found.  The exact spelling wins where case is ignored. */
class Search {
  #folded: number | undefined;
  #exact: number | undefined;

  constructor(
    private readonly wanted: Uint8Array,
    private readonly ignoreCase: boolean,
  ) {}

  get result(): number | undefined {
    return this.#exact ?? this.#folded;
  }

  /** The kernel and the tools fold bytes above 127 differently: names may be filed under either hash. */
  hashes(): Iterable<number> {
    if (!this.ignoreCase) return [nameHash(this.wanted)];
    return new Set([foldedHash(this.wanted, foldLatin1), foldedHash(this.wanted, foldAscii)]);
  }

  offer(b: Uint8Array, at: number, length: number, ino: number): boolean {
    const { wanted } = this;
    if (length !== wanted.length) return false;
    let same = true;
    for (let i = 0; i < length; i++) {
      const x = b[at + i]!;
      const y = wanted[i]!;
      if (x === y) continue;
      if (!this.ignoreCase || foldLatin1(x) !== foldLatin1(y)) return false;
      same = false;
    }
    if (same) this.#exact = ino;
    else this.#folded ??= ino;
    return same;
  }
}

/** The entry an index entry points to; 0 marks one that was deleted. */
function offerEntry(directory: Directory, pointer: number, search: Search, last?: DataBlock): boolean {
  if (pointer === 0) return false;
  const address = pointer * 8;
  const { dirBlockSize } = directory.inode.volume.sb;
  const block = last ?? directory.block(address);
  const inside = address % dirBlockSize;
  if (block === undefined || inside < block.from || address >= DIR_LEAF_OFFSET || (last !== undefined && address >= dirBlockSize))
    throw directory.inode.corrupt(`an index entry points to ${address}, where no entry is`);
  return directory.entry(block, inside, (b, at, n, ino) => search.offer(b, at, n, ino)) < 0;
}

function inBlock(
  directory: Directory,
  block: DataBlock,
  leaf: { at: number; count: number },
  hash: number,
  search: Search,
): void {
  const d = block.view;
  for (let i = firstNotBelow(d, leaf.at, leaf.count, hash); i < leaf.count; i++) {
    if (d.getUint32(leaf.at + i * 8) !== hash) return;
    if (offerEntry(directory, d.getUint32(leaf.at + i * 8 + 4), search, block)) return;
  }
}

function inTree(directory: Directory, hash: number, search: Search): void {
  const { inode } = directory;
  const { volume } = inode;
  const { dirBlockSize, blockSize } = volume.sb;
  const magics = [DIR_LEAF1_MAGIC[volume.form], DIR_LEAFN_MAGIC[volume.form]];
  const tree = new HashTree(inode, directory.map, DIR_LEAF_OFFSET / blockSize, dirBlockSize, magics, 'directory index');
  const first = tree.leafFor(hash);
  if (first === undefined) return;
  const header = volume.sb.v5 ? 64 : 16;
  for (const leaf of tree.from(first)) if (!inLeaf(directory, leaf, header, hash, search)) return;
}

/** False when names with this hash cannot go on in the next leaf. */
function inLeaf(directory: Directory, leaf: HashLeaf, header: number, hash: number, search: Search): boolean {
  const room = Math.floor((leaf.bytes.length - header) / 8);
  if (leaf.count > room)
    throw directory.inode.corrupt(`directory index: a leaf has ${leaf.count} entries, there is room for ${room}`);
  for (let i = firstNotBelow(leaf.view, header, leaf.count, hash); i < leaf.count; i++) {
    if (leaf.view.getUint32(header + i * 8) !== hash) return false;
    if (offerEntry(directory, leaf.view.getUint32(header + i * 8 + 4), search)) return false;
  }
  // A single leaf has no successor: what is after its header is another thing.
  return leaf.magic === DIR_LEAFN_MAGIC[directory.inode.volume.form];
}
