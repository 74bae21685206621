import { type BlockSource, readUpTo } from '../../block/source.js';
import { uuidText } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { cString } from '../../core/text.js';
import type { Signature } from '../driver.js';
import { checksumFault } from './checksum.js';
import { FEATURES2, INCOMPAT, INCOMPAT_NAMES, SUPER_CRC, SUPER_MAGIC, Superblock, VERSION } from './structs.js';

/** The superblock's facts, checked. */
export interface Super {
  readonly signature: Signature;
  readonly v5: boolean;
  readonly blockSize: number;
  readonly sectSize: number;
  readonly inodeSize: number;
  readonly dirBlockSize: number;
  readonly dblocks: number;
  readonly agBlocks: number;
  readonly agCount: number;
  readonly agBlkLog: number;
  readonly inopbLog: number;
  readonly rootIno: number;
  /** First block of the log, 0 when it is on another device. */
  readonly logStart: number;
  readonly logBlocks: number;
  readonly imaxPct: number;
  readonly icount: number;
  readonly ifree: number;
  readonly fdblocks: number;
  readonly lazyCount: boolean;
  readonly ftype: boolean;
  readonly asciiCi: boolean;
  readonly incompat: number;
  /** The UUID metadata blocks carry. */
  readonly metaUuid: Uint8Array;
  /** Read from a secondary superblock: its counters are old. */
  readonly secondary: boolean;
}

const log2 = (n: number): number => 31 - Math.clz32(n);
const isSize = (n: number, log: number, least: number, most: number): boolean => n >= least && n <= most && n === 2 ** log;
const NULL_INO = 0xffffffffffffffffn;
/** Blocks of the smallest allocation group. */
const AG_BLOCKS_MIN = 64;
/** Bytes searched for a secondary superblock when the geometry is not known. */
const SEARCH_BYTES = 256 << 20;
const LARGEST_SECTOR = 32768;

/** What is wrong with the geometry, as blkid and the kernel judge it. */
function geometryFault(s: ReturnType<typeof Superblock.at>): string | undefined {
  const version = s.versionNum & VERSION.number;
  if (s.magic !== SUPER_MAGIC) return `magic is ${hex(s.magic)}, expected ${hex(SUPER_MAGIC)}`;
  if (version < 1 || version > 5) return `version is ${version}, expected 4 or 5`;
  if (!isSize(s.blockSize, s.blockLog, 512, 65536)) return `block size is ${s.blockSize} (2^${s.blockLog})`;
  if (!isSize(s.sectSize, s.sectLog, 512, LARGEST_SECTOR)) return `sector size is ${s.sectSize} (2^${s.sectLog})`;
  if (!isSize(s.inodeSize, s.inodeLog, 256, 2048)) return `inode size is ${s.inodeSize} (2^${s.inodeLog})`;
  if (s.blockLog - s.inodeLog !== s.inopbLog || s.inopBlock !== 1 << s.inopbLog)
    return `${s.inopBlock} inodes a block of ${s.blockSize} bytes, inodes of ${s.inodeSize}`;
  if (s.blockLog + s.dirBlkLog > 16) return `directory blocks of 2^${s.blockLog + s.dirBlkLog} bytes`;
  if (s.imaxPct > 100) return `${s.imaxPct} % of the space for inodes`;
  if (s.agCount === 0 || s.agBlocks < AG_BLOCKS_MIN) return `${s.agCount} allocation groups of ${s.agBlocks} blocks`;
  if (s.agBlkLog !== (s.agBlocks > 1 ? log2(s.agBlocks - 1) + 1 : 0))
    return `allocation groups of ${s.agBlocks} blocks, said to be below 2^${s.agBlkLog}`;
  const d = new DataView(s.view.buffer, s.view.byteOffset + s.base);
  if (d.getUint32(8) > 0x1fffff || s.dblocks > s.agCount * s.agBlocks || s.dblocks < (s.agCount - 1) * s.agBlocks + AG_BLOCKS_MIN)
    return `${s.agCount} allocation groups of ${s.agBlocks} blocks do not make the size that is given`;
  return undefined;
}

function faultOf(b: Uint8Array): string | undefined {
  if (b.length < 512) return 'the source ends inside it';
  const s = Superblock.at(b);
  const fault = geometryFault(s);
  if (fault !== undefined || (s.versionNum & VERSION.number) !== 5) return fault;
  if (b.length < s.sectSize) return 'the source ends inside it';
  return checksumFault(b.subarray(0, s.sectSize), SUPER_CRC);
}

/** The name in the superblock is padded with zero bytes; blkid leaves trailing white space out. */
function signatureOf(b: Uint8Array): Signature {
  const s = Superblock.at(b);
  const label = cString(s.fname).trimEnd();
  return { type: 'xfs', uuid: uuidText(s.uuid), ...(label === '' ? {} : { label }) };
}

export function probeSuper(source: BlockSource): Signature | undefined {
  const b = readUpTo(source, 0, LARGEST_SECTOR);
  if (b.length < 512 || Superblock.at(b).magic !== SUPER_MAGIC) return undefined;
  if (faultOf(b) === undefined) return signatureOf(b);
  const other = findSecondary(source, b, 0);
  return other === undefined ? undefined : signatureOf(other.bytes);
}

/** The primary superblock, or when it is damaged a secondary, which is said in `problems`. */
export function readSuper(source: BlockSource, problems: string[]): Super {
  const b = readUpTo(source, 0, LARGEST_SECTOR);
  const fault = faultOf(b);
  if (fault === undefined) return superOf(b, false);
  const other = findSecondary(source, b, SEARCH_BYTES);
  if (other === undefined) {
    const known = b.length >= 512 && Superblock.at(b).magic === SUPER_MAGIC;
    throw new GuestError(known ? 'corrupt' : 'wrong-format', `xfs: superblock: ${fault}`, { offset: 0 });
  }
  problems.push(`the primary superblock is damaged (${fault}); the one at ${hex(other.at)} is used instead`);
  return superOf(other.bytes, true);
}

interface Secondary {
  readonly bytes: Uint8Array;
  readonly at: number;
}

/** A whole superblock of another allocation group: where the primary says, where mkfs would put it, then by search. */
function findSecondary(source: BlockSource, primary: Uint8Array, searchBytes: number): Secondary | undefined {
  const tried = new Set<number>();
  for (const at of guesses(source.size, primary)) {
    if (tried.has(at)) continue;
    tried.add(at);
    const found = secondaryAt(source, at);
    if (found !== undefined) return found;
  }
  const step = 1 << 20;
  for (let at = step; at < Math.min(source.size, searchBytes); at += step) {
    const piece = readUpTo(source, at, step);
    const d = new DataView(piece.buffer, piece.byteOffset, piece.length);
    for (let o = 0; o + 512 <= piece.length; o += 512) {
      if (d.getUint32(o) !== SUPER_MAGIC) continue;
      const found = secondaryAt(source, at + o);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

function* guesses(size: number, primary: Uint8Array): Generator<number> {
  if (primary.length >= Superblock.size) {
    const s = Superblock.at(primary);
    const step = s.agBlocks * s.blockSize;
    if (step >= 512 * AG_BLOCKS_MIN) for (let g = 1; g <= 8 && g * step < size; g++) yield g * step;
  }
  for (const blockSize of [4096, 1024, 512, 2048, 65536, 8192, 16384, 32768])
    for (const count of [4, 2, 3, 5, 6, 8, 16, 32]) {
      const step = Math.ceil(Math.floor(size / blockSize) / count) * blockSize;
      for (const at of [step, (count - 1) * step]) if (at >= 512 * AG_BLOCKS_MIN && at < size) yield at;
    }
}

function secondaryAt(source: BlockSource, at: number): Secondary | undefined {
  const bytes = readUpTo(source, at, LARGEST_SECTOR);
  if (faultOf(bytes) !== undefined) return undefined;
  const s = Superblock.at(bytes);
  // mkfs fills in the root inode in some of the copies only; a copy that does not lie on a group's start is a file's contents.
  if (s.rootIno === NULL_INO || at % (s.agBlocks * s.blockSize) !== 0 || at / (s.agBlocks * s.blockSize) >= s.agCount)
    return undefined;
  return { bytes, at };
}

function superOf(b: Uint8Array, secondary: boolean): Super {
  const s = Superblock.at(b);
  const version = s.versionNum & VERSION.number;
  if (version < 4) throw unsupported(`xfs: superblock version ${version}; versions 4 and 5 are read`);
  if (!(s.versionNum & VERSION.dirV2)) throw unsupported('xfs: directories of version 1');
  const v5 = version === 5;
  const incompat = v5 ? s.incompat : 0;
  const known = Object.values(INCOMPAT).reduce((a, bit) => a | bit, 0);
  const unknown = (incompat & ~known) >>> 0;
  if (unknown !== 0) throw unsupported(`xfs: incompatible features ${featureNames(unknown)}`, { offset: 216 });
  if (s.inProgress !== 0 && !secondary) throw corrupt('xfs: mkfs was not finished', { offset: 126 });
  const features2 = s.versionNum & VERSION.moreBits ? s.features2 : 0;
  const rootIno = Number(s.rootIno);
  if (!Number.isSafeInteger(rootIno)) throw corrupt(`xfs: root inode is ${hex(s.rootIno)}`, { offset: 56 });
  return {
    signature: signatureOf(b),
    v5,
    blockSize: s.blockSize,
    sectSize: s.sectSize,
    inodeSize: s.inodeSize,
    dirBlockSize: s.blockSize << s.dirBlkLog,
    dblocks: s.dblocks,
    agBlocks: s.agBlocks,
    agCount: s.agCount,
    agBlkLog: s.agBlkLog,
    inopbLog: s.inopbLog,
    rootIno,
    logStart: s.logStart,
    logBlocks: s.logBlocks,
    imaxPct: s.imaxPct,
    icount: s.icount,
    ifree: s.ifree,
    fdblocks: s.fdblocks,
    lazyCount: v5 || (features2 & FEATURES2.lazyCount) !== 0,
    ftype: v5 ? (incompat & INCOMPAT.ftype) !== 0 : (features2 & FEATURES2.ftype) !== 0,
    asciiCi: (s.versionNum & VERSION.asciiCi) !== 0,
    incompat,
    metaUuid: (incompat & INCOMPAT.metaUuid ? s.metaUuid : s.uuid).slice(),
    secondary,
  };
}

function featureNames(bits: number): string {
  const names: string[] = [];
  for (let i = 0; i < 32; i++) {
    const bit = 2 ** i;
    if (Math.floor(bits / bit) % 2 === 1) names.push(INCOMPAT_NAMES.find(([b]) => b === bit)?.[1] ?? `bit ${i} (${hex(bit)})`);
  }
  return names.join(', ');
}
