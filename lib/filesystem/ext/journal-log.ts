import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, hex, unsupported } from '../../core/errors.js';
import { Contents } from './contents.js';
import {
  CommitHeader,
  JBD2_MAGIC,
  JOURNAL_BLOCK,
  JOURNAL_COMPAT_CHECKSUM,
  JOURNAL_INCOMPAT,
  JournalHeader,
  JournalSuper,
  RevokeHeader,
  TAG_FLAG,
} from './structs.js';
import type { Volume } from './volume.js';

/** One block that a descriptor says follows it in the log. */
export interface Tag {
  readonly target: number;
  readonly checksum: number;
  /** Its first four bytes were the journal's magic and were zeroed. */
  readonly escaped: boolean;
}

const SUPPORTED = Object.values(JOURNAL_INCOMPAT).reduce((a, b) => a | b, 0);
/** A log this short keeps no area for fast commits. */
const MIN_BLOCKS = 1024;
const DEFAULT_FAST_COMMIT_BLOCKS = 256;

/** The journal inode as a ring of blocks, and the formats of the blocks in it. */
export class JournalLog {
  readonly blockSize: number;
  readonly first: number;
  /** One past the ring's last block. */
  readonly end: number;
  /** One past the journal's last block: fast commits are between the ring and here. */
  readonly total: number;
  readonly start: number;
  readonly sequence: number;
  readonly fastCommitFirst: number | undefined;
  readonly csum: 0 | 1 | 2 | 3;
  readonly asyncCommit: boolean;
  readonly #seed: number;
  readonly #wide: boolean;
  readonly #contents: Contents;

  constructor(volume: Volume) {
    this.blockSize = volume.blockSize;
    const inode = volume.inode(volume.sb.journalInum);
    if (inode.kind !== 'file' || inode.links === 0) throw corrupt(`ext: the journal, inode ${inode.ino}, is not a file in use`);
    this.#contents = new Contents(inode);
    const raw = this.block(0).subarray(0, 1024);
    const h = JournalHeader.at(raw);
    const v2 = h.blocktype === JOURNAL_BLOCK.superV2;
    if (h.magic !== JBD2_MAGIC || (!v2 && h.blocktype !== JOURNAL_BLOCK.superV1))
      throw corrupt(`ext: the journal has no superblock (magic ${hex(h.magic)}, type ${h.blocktype})`);
    const s = JournalSuper.at(raw);
    const incompat = v2 ? s.featureIncompat : 0;
    if (incompat & ~SUPPORTED) throw unsupported(`ext: journal feature ${hex(incompat & ~SUPPORTED)} is not supported`);
    this.csum =
      incompat & JOURNAL_INCOMPAT.csumV3
        ? 3
        : incompat & JOURNAL_INCOMPAT.csumV2
          ? 2
          : v2 && s.featureCompat & JOURNAL_COMPAT_CHECKSUM
            ? 1
            : 0;
    if (this.csum >= 2) {
      const expected = checksumWithout(raw, JournalSuper.offset.checksum, 0xffffffff);
      if (expected !== s.checksum)
        throw corrupt(`ext: the journal's superblock has checksum ${hex(s.checksum)}, expected ${hex(expected)}`);
    }
    this.#wide = (incompat & JOURNAL_INCOMPAT.bit64) !== 0;
    this.asyncCommit = (incompat & JOURNAL_INCOMPAT.asyncCommit) !== 0;
    this.#seed = crc32cRaw(s.uuid, 0xffffffff);
    this.total = s.maxlen;
    this.first = s.first;
    this.start = s.start;
    this.sequence = s.sequence;
    if (s.blocksize !== this.blockSize)
      throw corrupt(`ext: journal blocks have ${s.blocksize} bytes, the filesystem's ${this.blockSize}`);
    if (this.total * this.blockSize > this.#contents.size)
      throw corrupt(`ext: the journal says it has ${this.total} blocks, its file has ${this.#contents.size} bytes`);
    let end = this.total;
    if (incompat & JOURNAL_INCOMPAT.fastCommit) {
      const n = s.numFcBlocks || DEFAULT_FAST_COMMIT_BLOCKS;
      if (end - n >= MIN_BLOCKS) end -= n;
      this.fastCommitFirst = end + 1;
    }
    this.end = end;
    if (this.first < 1 || this.first >= end || (this.start !== 0 && (this.start < this.first || this.start >= end)))
      throw corrupt(`ext: the journal's ring is blocks ${this.first} to ${end - 1}, it should start at ${this.start}`);
  }

  block(n: number): Uint8Array {
    const b = new Uint8Array(this.blockSize);
    this.#contents.read(b, n * this.blockSize);
    return b;
  }

  next(n: number, by = 1): number {
    const m = n + by;
    return m < this.end ? m : m - (this.end - this.first);
  }

  *tags(descriptor: Uint8Array): Generator<Tag> {
    const d = new DataView(descriptor.buffer, descriptor.byteOffset, descriptor.length);
    const size = this.csum === 3 ? 16 : (this.#wide ? 12 : 8) + (this.csum === 2 ? 2 : 0);
    const end = descriptor.length - (this.csum >= 2 ? 4 : 0);
    for (let o = 12; o + size <= end; ) {
      const flags = this.csum === 3 ? d.getUint32(o + 4) : d.getUint16(o + 6);
      const high = this.#wide ? d.getUint32(o + 8) : 0;
      yield {
        target: d.getUint32(o) + high * 2 ** 32,
        checksum: this.csum === 3 ? d.getUint32(o + 12) : d.getUint16(o + 4),
        escaped: (flags & TAG_FLAG.escape) !== 0,
      };
      if (flags & TAG_FLAG.last) return;
      o += size + (flags & TAG_FLAG.sameUuid ? 0 : 16);
    }
  }

  /** Blocks a revoke block names: older copies of them in the log are not to be written. */
  *revoked(block: Uint8Array): Generator<number> {
    const d = new DataView(block.buffer, block.byteOffset, block.length);
    const end = Math.min(RevokeHeader.at(block).count, block.length - (this.csum >= 2 ? 4 : 0));
    const size = this.#wide ? 8 : 4;
    for (let o = RevokeHeader.size; o + size <= end; o += size)
      yield this.#wide ? d.getUint32(o) * 2 ** 32 + d.getUint32(o + 4) : d.getUint32(o);
  }

  /** Descriptor and revoke blocks end in a checksum since version 2. */
  tailOk(block: Uint8Array): boolean {
    if (this.csum < 2) return true;
    const at = block.length - 4;
    return checksumWithout(block, at, this.#seed) === new DataView(block.buffer, block.byteOffset).getUint32(at);
  }
  commitOk(block: Uint8Array): boolean {
    if (this.csum < 2) return true;
    return checksumWithout(block, CommitHeader.offset.chksum, this.#seed) === CommitHeader.at(block).chksum;
  }
  tagOk(tag: Tag, data: Uint8Array, sequence: number): boolean {
    if (this.csum < 2) return true;
    const number = Uint8Array.of(sequence >>> 24, sequence >>> 16, sequence >>> 8, sequence);
    const crc = crc32cRaw(data, crc32cRaw(number, this.#seed));
    return (this.csum === 3 ? crc : crc & 0xffff) === tag.checksum;
  }
}

function checksumWithout(block: Uint8Array, at: number, seed: number): number {
  const copy = block.slice();
  copy.fill(0, at, at + 4);
  return crc32cRaw(copy, seed);
}

let beTable: Uint32Array | undefined;
/** CRC-32 with the most significant bit first, not inverted: what version 1 sums a transaction with. */
export function crc32be(b: Uint8Array, crc: number): number {
  beTable ??= Uint32Array.from({ length: 256 }, (_, i) => {
    let c = i << 24;
    for (let k = 0; k < 8; k++) c = c & 0x80000000 ? (c << 1) ^ 0x04c11db7 : c << 1;
    return c >>> 0;
  });
  for (let i = 0; i < b.length; i++) crc = (crc << 8) ^ beTable[((crc >>> 24) ^ b[i]!) & 255]!;
  return crc >>> 0;
}
