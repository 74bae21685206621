import { CachedSource } from '../../block/cache.js';
import type { BlockSource } from '../../block/source.js';
import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, hex } from '../../core/errors.js';
import type { Changes } from './changes.js';
import { Inode } from './inode.js';
import { GroupDescriptor, GroupDescriptorHi, INCOMPAT, ROOT_INO } from './structs.js';
import { descriptorChecksum, groupStart, hasSuper, type Super } from './superblock.js';

export interface Group {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeClusters: number;
  readonly freeInodes: number;
}

/** Lines in `problems` at most; a badly damaged filesystem must not fill the memory with them. */
const PROBLEMS_MAX = 100;

/** An open filesystem below the level of names: blocks, groups and inodes, with their checksums verified. */
export class Volume {
  readonly cache: CachedSource;
  readonly blockSize: number;
  readonly #inodeTables = new Map<number, number>();
  readonly #parents = new Map<number, number>();
  readonly #said = new Set<string>();
  readonly #scratch: Uint8Array;

  /** Set when fast commits were replayed. */
  changes: Changes | undefined;

  constructor(
    /** File data is read from here directly. */
    readonly source: BlockSource,
    readonly sb: Super,
    readonly problems: string[],
  ) {
    this.cache = new CachedSource(source);
    this.blockSize = sb.blockSize;
    this.#scratch = new Uint8Array(8 + sb.inodeSize);
  }

  /** Damage that reading can go on from; each said once. */
  report(problem: string): void {
    if (this.#said.has(problem) || this.#said.size > PROBLEMS_MAX) return;
    this.#said.add(problem);
    this.problems.push(this.#said.size > PROBLEMS_MAX ? 'more problems follow, not listed' : problem);
  }

  /** Drops what is cached: the source below has changed. */
  forget(): void {
    this.cache.close();
    this.#inodeTables.clear();
  }

  /** A metadata block: a view into the cache, not to be changed. */
  block(n: number): Uint8Array {
    this.checkBlocks(n, 1, 'block');
    return this.cache.view(n * this.blockSize, this.blockSize);
  }

  /** Throws unless the blocks lie where the filesystem keeps data. */
  checkBlocks(start: number, count: number, what: string): void {
    if (start < this.sb.firstDataBlock || start === 0 || start + count > this.sb.blocks)
      throw corrupt(`ext: ${what} ${start}${count > 1 ? `+${count}` : ''} is outside the filesystem (${this.sb.blocks} blocks)`, {
        offset: start * this.blockSize,
      });
  }

  /** The group's descriptor; when the primary is damaged, the first backup that is not. */
  group(g: number): Group {
    const primary = this.#descriptor(g, this.sb.fromGroup);
    if (primary.fault === undefined) return primary;
    for (const copy of this.#backups(g)) {
      const d = this.#descriptor(g, copy);
      if (d.fault !== undefined) continue;
      this.report(`${primary.fault}; the backup in group ${copy} is used instead`);
      return d;
    }
    this.report(primary.fault);
    return primary;
  }

  /** Other groups that hold a copy of a descriptor. */
  *#backups(g: number): Generator<number> {
    const s = this.sb;
    const perBlock = this.blockSize / s.descSize;
    const meta = Math.floor(g / perBlock);
    if (s.incompat & INCOMPAT.metaBg && meta >= s.firstMetaBg) {
      // The second and the last group of those that share a block of descriptors.
      for (const copy of [1, perBlock - 1]) if (meta * perBlock + copy < s.groups) yield meta * perBlock + copy;
      return;
    }
    // The first backups are as good as any; a filesystem that lost all of these is past helping.
    for (const copy of [1, 3, 5, 7, 9, ...s.backupGroups]) if (copy > 0 && copy < s.groups && hasSuper(s, copy)) yield copy;
  }

  #descriptor(g: number, copy: number): Group & { readonly fault: string | undefined } {
    const s = this.sb;
    const perBlock = this.blockSize / s.descSize;
    const table = Math.floor(g / perBlock);
    const at = this.#descriptorBlock(table, copy) * this.blockSize + (g - table * perBlock) * s.descSize;
    const raw = this.cache.view(at, s.descSize);
    const d = GroupDescriptor.at(raw);
    const hi = s.descSize >= 64 ? GroupDescriptorHi.at(raw) : undefined;
    const inodeTable = d.inodeTableLo + (hi?.inodeTableHi ?? 0) * 2 ** 32;
    const expected = descriptorChecksum(s, g, raw);
    const name = `group descriptor ${g} at ${hex(at)}`;
    let fault: string | undefined;
    if (expected !== undefined && expected !== d.checksum)
      fault = `${name} has checksum ${hex(d.checksum)}, expected ${hex(expected)}`;
    else if (inodeTable <= s.firstDataBlock || inodeTable + this.tableBlocks > s.blocks)
      fault = `${name} says the inode table is at block ${inodeTable} (${s.blocks} blocks)`;
    return {
      blockBitmap: d.blockBitmapLo + (hi?.blockBitmapHi ?? 0) * 2 ** 32,
      inodeBitmap: d.inodeBitmapLo + (hi?.inodeBitmapHi ?? 0) * 2 ** 32,
      inodeTable,
      freeClusters: d.freeBlocksCountLo + (hi?.freeBlocksCountHi ?? 0) * 65536,
      freeInodes: d.freeInodesCountLo + (hi?.freeInodesCountHi ?? 0) * 65536,
      fault,
    };
  }

  /** Blocks of a group's inode table. */
  get tableBlocks(): number {
    return Math.ceil((this.sb.inodesPerGroup * this.sb.inodeSize) / this.blockSize);
  }

  #descriptorBlock(table: number, copy: number): number {
    const s = this.sb;
    if (!(s.incompat & INCOMPAT.metaBg) || table < s.firstMetaBg) {
      const first = copy === 0 ? Math.floor(1024 / s.blockSize) : groupStart(s, copy);
      return first + 1 + table;
    }
    // One block of descriptors for the groups it describes, in the first of them.
    const firstOfMeta = table * (s.blockSize / s.descSize);
    const group = copy > firstOfMeta && copy < firstOfMeta + s.blockSize / s.descSize ? copy : firstOfMeta;
    let skip = hasSuper(s, group) ? 1 : 0;
    // With 1024-byte blocks and bigalloc the boot block is inside group 0.
    if (s.blockSize === 1024 && group === 0 && s.firstDataBlock === 0) skip++;
    return groupStart(s, group) + skip;
  }

  /** Where an inode's bytes are. */
  inodeOffset(ino: number): number {
    const s = this.sb;
    if (ino < 1 || ino > s.inodes) throw corrupt(`ext: inode ${ino} does not exist (${s.inodes} inodes)`);
    const g = Math.floor((ino - 1) / s.inodesPerGroup);
    let table = this.#inodeTables.get(g);
    if (table === undefined) {
      table = this.group(g).inodeTable;
      this.checkBlocks(table, this.tableBlocks, `inode table of group ${g}`);
      this.#inodeTables.set(g, table);
    }
    return table * s.blockSize + (ino - 1 - g * s.inodesPerGroup) * s.inodeSize;
  }

  /** An inode by number, checksum verified. */
  inode(ino: number): Inode {
    const at = this.inodeOffset(ino);
    const raw = this.cache.view(at, this.sb.inodeSize).slice();
    const inode = new Inode(this, ino, raw);
    if (this.sb.metaCsum) {
      const expected = this.inodeChecksum(ino, raw);
      if (expected !== inode.storedChecksum)
        throw corrupt(`ext: inode ${ino} at ${hex(at)} has checksum ${hex(inode.storedChecksum)}, expected ${hex(expected)}`, {
          offset: at,
        });
    }
    return inode;
  }

  /**
   * A directory can be in one other directory only.  Two parents, or a circle, would make a walk endless; the kernel refuses
   * them as well.
   */
  claimDirectory(ino: number, parent: number): void {
    const known = this.#parents.get(ino);
    if (known === undefined && ino !== ROOT_INO) this.#parents.set(ino, parent);
    else if (known !== parent)
      throw corrupt(`ext: directory inode ${ino} is in directory ${parent} and in ${known ?? 'none, as it is the root'}`);
  }

  /** An inode a directory entry may name: in use, and not one of the filesystem's own. */
  namedInode(ino: number): Inode {
    if (ino < this.sb.firstIno && ino !== ROOT_INO) throw corrupt(`ext: inode ${ino} is reserved, a directory names it`);
    const inode = this.inode(ino);
    if (inode.mode === 0 || inode.links === 0)
      throw corrupt(`ext: inode ${ino} is not in use, a directory names it`, { offset: this.inodeOffset(ino) });
    return inode;
  }

  /** The checksum an inode's bytes should carry, cut to 16 bits where there is room for no more. */
  inodeChecksum(ino: number, raw: Uint8Array): number {
    const b = this.#scratch;
    b[0] = ino;
    b[1] = ino >>> 8;
    b[2] = ino >>> 16;
    b[3] = ino >>> 24;
    b.set(raw, 8);
    for (let i = 0; i < 4; i++) b[4 + i] = raw[0x64 + i]!;
    b[8 + 0x7c] = 0;
    b[8 + 0x7d] = 0;
    const wide = raw.length > 128 && (raw[0x80]! | (raw[0x81]! << 8)) >= 4;
    if (wide) {
      b[8 + 0x82] = 0;
      b[8 + 0x83] = 0;
    }
    const crc = crc32cRaw(b, this.sb.csumSeed);
    return wide ? crc : crc & 0xffff;
  }
}
