import { CachedSource } from '../../block/cache.js';
import type { BlockSource } from '../../block/source.js';
import { equalBytes, uuidText } from '../../core/bytes.js';
import { corrupt, hex } from '../../core/errors.js';
import { checksumFault } from './checksum.js';
import { Inode } from './inode.js';
import { type HeaderLayout, INODE_CRC, INODE_MAGIC, InodeCore, InodeV3 } from './structs.js';
import type { Super } from './superblock.js';

/** Blocks remembered as having a right checksum. */
const VERIFIED_MAX = 1 << 16;

/** An open filesystem below the level of names: blocks and inodes, with their checksums verified. */
export class Volume {
  readonly cache: CachedSource;
  readonly blockSize: number;
  /** Index into the pairs of magic numbers and header sizes: 0 for version 4, 1 for version 5. */
  readonly form: 0 | 1;
  readonly #agSpan: number;
  readonly #inoSpan: number;
  readonly #verified = new Set<number>();

  constructor(
    /** File data is read from here directly. */
    readonly source: BlockSource,
    readonly sb: Super,
    readonly problems: string[],
  ) {
    this.cache = new CachedSource(source);
    this.blockSize = sb.blockSize;
    this.form = sb.v5 ? 1 : 0;
    this.#agSpan = 2 ** sb.agBlkLog;
    this.#inoSpan = 2 ** (sb.agBlkLog + sb.inopbLog);
  }

  /** Blocks of an allocation group; the last may be shorter. */
  agLength(ag: number): number {
    return Math.min(this.sb.agBlocks, this.sb.dblocks - ag * this.sb.agBlocks);
  }

  /** Where a run of blocks lies in the source; throws unless it lies in one allocation group. */
  offsetOf(block: number, count: number, what: string): number {
    const ag = Math.floor(block / this.#agSpan);
    const inside = block - ag * this.#agSpan;
    if (ag >= this.sb.agCount || inside + count > this.agLength(ag))
      throw corrupt(
        `xfs: ${what}: block ${hex(block)}${count > 1 ? `+${count}` : ''} is outside the filesystem (${this.sb.dblocks} blocks)`,
      );
    return (ag * this.sb.agBlocks + inside) * this.blockSize;
  }

  /** Checks what a version 5 block says of itself. */
  verify(b: Uint8Array, at: number, layout: HeaderLayout, owner: number, what: string): void {
    if (!this.sb.v5) return;
    const bad = (problem: string) => corrupt(`xfs: ${what} at ${hex(at)}: ${problem}`, { offset: at });
    if (!this.#verified.has(at)) {
      const fault = checksumFault(b, layout.crc);
      if (fault !== undefined) throw bad(fault);
      if (this.#verified.size >= VERIFIED_MAX) this.#verified.clear();
      this.#verified.add(at);
    }
    const d = new DataView(b.buffer, b.byteOffset, b.length);
    const number = (o: number) => d.getUint32(o) * 2 ** 32 + d.getUint32(o + 4);
    if (number(layout.owner) !== owner) throw bad(`belongs to inode ${number(layout.owner)}, expected ${owner}`);
    if (number(layout.blkno) !== at / 512) throw bad(`says it lies at sector ${number(layout.blkno)}, expected ${at / 512}`);
    this.#checkUuid(b.subarray(layout.uuid, layout.uuid + 16), bad);
  }

  #checkUuid(uuid: Uint8Array, bad: (problem: string) => Error): void {
    if (!equalBytes(uuid, this.sb.metaUuid)) throw bad(`has UUID ${uuidText(uuid)}, expected ${uuidText(this.sb.metaUuid)}`);
  }

  /** Where an inode's bytes are. */
  inodeOffset(ino: number): number {
    const { sb } = this;
    const ag = Math.floor(ino / this.#inoSpan);
    const inside = ino - ag * this.#inoSpan;
    const block = Math.floor(inside / 2 ** sb.inopbLog);
    // The first blocks of a group hold its headers.
    if (!Number.isSafeInteger(ino) || ino <= 0 || ag >= sb.agCount || block === 0 || block >= this.agLength(ag))
      throw corrupt(`xfs: inode ${ino} does not exist (${sb.agCount} allocation groups of ${sb.agBlocks} blocks)`);
    return (ag * sb.agBlocks + block) * sb.blockSize + (inside - block * 2 ** sb.inopbLog) * sb.inodeSize;
  }

  /** An inode that a directory names: in use, checksum verified. */
  inode(ino: number): Inode {
    const at = this.inodeOffset(ino);
    const bad = (problem: string) => corrupt(`xfs: inode ${ino} at ${hex(at)}: ${problem}`, { offset: at });
    const raw = this.cache.view(at, this.sb.inodeSize).slice();
    const core = InodeCore.at(raw);
    if (core.magic !== INODE_MAGIC) throw bad(`magic is ${hex(core.magic)}, expected ${hex(INODE_MAGIC)}`);
    if (this.sb.v5 ? core.version !== 3 : core.version !== 1 && core.version !== 2) throw bad(`version is ${core.version}`);
    if (this.sb.v5) {
      const fault = checksumFault(raw, INODE_CRC);
      if (fault !== undefined) throw bad(fault);
      const v3 = InodeV3.at(raw);
      if (v3.ino !== BigInt(ino)) throw bad(`says it is inode ${v3.ino}`);
      this.#checkUuid(v3.uuid, bad);
    }
    if (core.mode === 0) throw bad('is not in use, a directory names it');
    return new Inode(this, ino, at, raw);
  }

  close(): void {
    this.cache.close();
    this.#verified.clear();
  }
}
