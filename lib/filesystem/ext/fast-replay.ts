import type { WritableSource } from '../../block/source.js';
import { corrupt, GuestError } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import { blockMap, type Piece } from './blockmap.js';
import { Changes } from './changes.js';
import type { FastChange } from './fast-commit.js';
import { Inode } from './inode.js';
import { EXTENT_MAGIC, INODE_FLAG, InodeCore, ROOT_INO } from './structs.js';
import type { Volume } from './volume.js';

/** Extents one changed file may have; more is not worth holding in memory. */
const PIECES_MAX = 1_000_000;
/** File types in directory entries, by the top four bits of the mode. */
const TYPE_OF_MODE: Readonly<Record<number, number>> = { 1: 5, 2: 3, 4: 2, 6: 4, 8: 1, 10: 7, 12: 6 };

/**
 * Applies fast commits: inodes onto `target`, names and ranges into `volume.changes`.  `volume` must read from `target`
 * with nothing cached below it, which is why writing goes through here.
 */
export class FastReplay {
  readonly changes = new Changes();
  readonly #pieces = new Map<number, Piece[]>();

  constructor(
    private readonly volume: Volume,
    private readonly target: WritableSource,
  ) {}

  apply(list: readonly FastChange[]): void {
    for (const change of list) {
      try {
        this.#one(change);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
        this.volume.report(`journal: a fast commit's "${change.kind}" of inode ${change.ino} cannot be replayed: ${e.message}`);
      }
    }
    for (const [ino, pieces] of this.#pieces) {
      this.changes.blocks.set(ino, pieces);
      const allocated = pieces.reduce((n, p) => n + p.count, 0);
      this.#editInode(ino, (raw) => setSectors(raw, (allocated * this.volume.blockSize) / 512));
    }
  }

  #one(change: FastChange): void {
    switch (change.kind) {
      case 'inode':
        return this.#inode(change.ino, change.raw);
      case 'create':
      case 'link':
        return this.#link(change.parent, change.ino, change.name, change.kind === 'create');
      case 'unlink':
        this.#mustExist(change.parent);
        this.changes.name(change.parent, decodeName(change.name), { ino: 0, type: 0 });
        return this.#editInode(change.ino, (_, f) => {
          if (f.linksCount > 0) f.linksCount--;
        });
      case 'range':
        this.volume.checkBlocks(change.physical, Math.max(1, change.count), `range of inode ${change.ino},`);
        return this.#replace(change.ino, change.logical, change.count, {
          logical: change.logical,
          physical: change.physical,
          count: change.count,
          unwritten: change.unwritten,
        });
      case 'hole':
        return this.#replace(change.ino, change.logical, change.count, undefined);
    }
  }

  /** Everything but the block pointers, which ranges give. */
  #inode(ino: number, fresh: Uint8Array): void {
    this.#editInode(ino, (raw, f) => {
      raw.set(fresh.subarray(0, InodeCore.offset.block));
      const rest = fresh.subarray(InodeCore.offset.generation, raw.length);
      raw.set(rest, InodeCore.offset.generation);
      if (f.flags & INODE_FLAG.extents) {
        const v = f.view;
        const at = f.base + InodeCore.offset.block;
        if (v.getUint16(at, true) === EXTENT_MAGIC) return;
        raw.fill(0, InodeCore.offset.block, InodeCore.offset.block + 12);
        v.setUint16(at, EXTENT_MAGIC, true);
        v.setUint16(at + 4, 4, true);
      } else raw.set(fresh.subarray(InodeCore.offset.block, InodeCore.offset.generation), InodeCore.offset.block);
    });
  }

  #link(parent: number, ino: number, name: Uint8Array, create: boolean): void {
    this.#mustExist(parent);
    const inode = this.#load(ino);
    const text = decodeName(name);
    const made = create && inode.kind === 'directory';
    this.changes.name(parent, text, { ino, type: TYPE_OF_MODE[inode.mode >>> 12] ?? 0 });
    if (made) this.changes.madeDirectories.add(ino);
    this.#editInode(ino, (_, f) => {
      f.linksCount = create ? 1 : f.linksCount + 1;
    });
  }

  #mustExist(directory: number): void {
    if (this.#load(directory).kind !== 'directory') throw corrupt(`inode ${directory} is not a directory`);
  }

  #load(ino: number): Inode {
    if (ino < this.volume.sb.firstIno && ino !== ROOT_INO) throw corrupt(`inode ${ino} is reserved`);
    const raw = new Uint8Array(this.volume.sb.inodeSize);
    this.target.read(raw, this.volume.inodeOffset(ino));
    return new Inode(this.volume, ino, raw);
  }

  #editInode(ino: number, edit: (raw: Uint8Array, fields: Inode['fields']) => void): void {
    const inode = this.#load(ino);
    edit(inode.raw, inode.fields);
    if (this.volume.sb.metaCsum) {
      const sum = this.volume.inodeChecksum(ino, inode.raw);
      inode.fields.checksumLo = sum & 0xffff;
      const d = new DataView(inode.raw.buffer);
      if (inode.raw.length > 128 && d.getUint16(0x80, true) >= 4) d.setUint16(0x82, sum >>> 16, true);
    }
    this.target.write(inode.raw, this.volume.inodeOffset(ino));
  }

  #replace(ino: number, logical: number, count: number, piece: Piece | undefined): void {
    let pieces = this.#pieces.get(ino);
    if (pieces === undefined) this.#pieces.set(ino, (pieces = this.#existing(ino)));
    if (count === 0) return;
    const end = logical + count;
    const next: Piece[] = [];
    let placed = piece === undefined;
    for (const p of pieces) {
      const pEnd = p.logical + p.count;
      if (!placed && p.logical >= logical) {
        next.push(piece!);
        placed = true;
      }
      if (pEnd <= logical || p.logical >= end) next.push(p);
      else {
        if (p.logical < logical) next.push({ ...p, count: logical - p.logical });
        if (!placed) {
          next.push(piece!);
          placed = true;
        }
        if (pEnd > end) next.push({ ...p, logical: end, physical: p.physical + end - p.logical, count: pEnd - end });
      }
    }
    if (!placed) next.push(piece!);
    if (next.length > PIECES_MAX) throw corrupt(`more than ${PIECES_MAX} extents`);
    this.#pieces.set(ino, next);
  }

  /** The extents an inode has before fast commits. */
  #existing(ino: number): Piece[] {
    const inode = this.#load(ino);
    const out: Piece[] = [];
    if (!inode.has('extents')) return out;
    const map = blockMap(inode);
    const end = 2 ** 32;
    for (let at = 0; at < end; ) {
      const p = map.find(at);
      if (p.physical !== 0 || p.unwritten) out.push(p);
      if (out.length > PIECES_MAX) throw corrupt(`more than ${PIECES_MAX} extents`);
      at = p.logical + p.count;
    }
    return out;
  }
}

function setSectors(raw: Uint8Array, sectors: number): void {
  const d = new DataView(raw.buffer, raw.byteOffset);
  d.setUint32(0x1c, sectors % 2 ** 32, true);
  d.setUint16(0x74, Math.floor(sectors / 2 ** 32), true);
}
