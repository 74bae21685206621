import { type BlockSource, readUpTo } from '../../block/source.js';
import { isPowerOfTwo, uuidText } from '../../core/bytes.js';
import { crc16, crc32cRaw } from '../../core/checksum.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { cString } from '../../core/text.js';
import type { Signature } from '../driver.js';
import { COMPAT, INCOMPAT, READABLE, RO_COMPAT, SUPER_MAGIC, SUPER_OFFSET, Superblock, UNREADABLE } from './structs.js';

/** The superblock's facts, checked: nothing here can make an offset or a loop go wild. */
export interface Super {
  readonly signature: Signature;
  readonly uuid: Uint8Array;
  /** The block group this copy was read from; 0 is the primary. */
  readonly fromGroup: number;
  readonly inodes: number;
  readonly blocks: number;
  readonly reservedBlocks: number;
  readonly firstDataBlock: number;
  readonly blockSize: number;
  /** Blocks a cluster (bigalloc), else 1. */
  readonly clusterRatio: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly groups: number;
  readonly inodeSize: number;
  readonly firstIno: number;
  readonly descSize: number;
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly metaCsum: boolean;
  readonly gdtCsum: boolean;
  /** CRC-32C state all metadata checksums start from. */
  readonly csumSeed: number;
  readonly hashSeed: Uint32Array;
  readonly hashVersion: number;
  readonly hashUnsigned: boolean;
  readonly journalInum: number;
  readonly journalDev: number;
  readonly lastOrphan: number;
  readonly orphanFileInum: number;
  readonly reservedGdtBlocks: number;
  readonly firstMetaBg: number;
  readonly overheadClusters: number;
  readonly backupGroups: readonly [number, number];
  readonly state: number;
}

const EXT2_INCOMPAT = INCOMPAT.filetype | INCOMPAT.metaBg;
const EXT3_INCOMPAT = EXT2_INCOMPAT | INCOMPAT.recover;
const EXT3_RO_COMPAT = RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | RO_COMPAT.btreeDir;
const FLAG_TEST_FILESYSTEM = 0x4;

/** What blkid says of a superblock; undefined when it would say nothing. */
export function signatureOf(raw: Uint8Array): Signature | undefined {
  if (raw.length < 1024) return undefined;
  const s = Superblock.at(raw);
  if (s.magic !== SUPER_MAGIC) return undefined;
  // blkid takes a wrong checksum, but no block size that cannot be.
  if (s.logBlockSize >= 32) return undefined;
  const type = typeOf(s.featureCompat, s.featureIncompat, s.featureRoCompat, s.flags);
  if (type === undefined) return undefined;
  const label = cString(s.volumeName);
  const uuid = s.uuid;
  return {
    type,
    ...(uuid.some((b) => b !== 0) ? { uuid: uuidText(uuid) } : {}),
    ...(label !== '' ? { label } : {}),
  };
}

function typeOf(compat: number, incompat: number, roCompat: number, flags: number): string | undefined {
  if (incompat & INCOMPAT.journalDev) return 'jbd';
  const journal = (compat & COMPAT.hasJournal) !== 0;
  const oldRo = (roCompat & ~EXT3_RO_COMPAT) === 0;
  if (!journal && oldRo && (incompat & ~EXT2_INCOMPAT) === 0) return 'ext2';
  if (journal && oldRo && (incompat & ~EXT3_INCOMPAT) === 0) return 'ext3';
  if (oldRo && (incompat & ~EXT3_INCOMPAT) === 0) return undefined;
  return flags & FLAG_TEST_FILESYSTEM ? 'ext4dev' : 'ext4';
}

export const superChecksumOk = (raw: Uint8Array): boolean =>
  crc32cRaw(raw.subarray(0, Superblock.offset.checksum), 0xffffffff) === Superblock.at(raw).checksum;

/** The superblock, or a backup of it (with a line in `problems` that says so). */
export function readSuper(source: BlockSource, problems: string[]): Super {
  let why: GuestError;
  try {
    return parseSuper(readUpTo(source, SUPER_OFFSET, 1024), SUPER_OFFSET);
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'unsupported') throw e;
    why = e;
  }
  for (const { group, offset } of backupOffsets(source.size)) {
    const raw = readUpTo(source, offset, 1024);
    if (raw.length < 1024 || Superblock.at(raw).magic !== SUPER_MAGIC) continue;
    try {
      const s = parseSuper(raw, offset, group);
      if (groupStart(s, group) * s.blockSize !== offset) continue;
      problems.push(`${why.message}; the backup at ${hex(offset)} is used instead`);
      return s;
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
    }
  }
  throw why;
}

/** Where mke2fs puts the first backups for each block size, when groups have their usual size. */
function* backupOffsets(size: number): Generator<{ group: number; offset: number }> {
  for (let blockSize = 1024; blockSize <= 65536; blockSize *= 2) {
    const first = blockSize === 1024 ? 1 : 0;
    // 65536-byte blocks: the count of blocks in a group is a 16-bit number less one unit.
    const perGroup = Math.min(8 * blockSize, 65528);
    for (const group of [1, 3, 5, 7, 9, 25, 27]) {
      const offset = (group * perGroup + first) * blockSize;
      if (offset + 1024 <= size) yield { group, offset };
    }
  }
}

export const groupStart = (s: Super, group: number): number => s.firstDataBlock + group * s.blocksPerGroup;

export function parseSuper(raw: Uint8Array, offset: number, group = 0): Super {
  if (raw.length < 1024 || Superblock.at(raw).magic !== SUPER_MAGIC)
    throw new GuestError('wrong-format', `no ext superblock at ${hex(offset)}`, { offset });
  const bad = (what: string) => corrupt(`ext superblock at ${hex(offset)}: ${what}`, { offset });
  const s = Superblock.at(raw.slice());
  const dynamic = s.revLevel >= 1;
  const incompat = dynamic ? s.featureIncompat : 0;
  const roCompat = dynamic ? s.featureRoCompat : 0;
  const compat = dynamic ? s.featureCompat : 0;
  const metaCsum = (roCompat & RO_COMPAT.metadataCsum) !== 0;
  if (metaCsum) {
    if (s.checksumType !== 1) throw unsupported(`ext superblock: checksum type ${s.checksumType} is not known (1 is crc32c)`);
    if (!superChecksumOk(raw)) throw bad('its checksum is wrong');
  }
  if (incompat & INCOMPAT.journalDev) throw unsupported('this is an external journal of an ext filesystem, it has no files');
  if (incompat & ~READABLE) throw unsupported(`ext feature ${featureNames(incompat & ~READABLE)} is not supported`);
  if (s.logBlockSize > 6) throw bad(`block size is 1024 << ${s.logBlockSize} (at most 65536)`);
  const blockSize = 1024 << s.logBlockSize;
  const bigalloc = (roCompat & RO_COMPAT.bigalloc) !== 0;
  if (bigalloc && (s.logClusterSize < s.logBlockSize || s.logClusterSize > 20))
    throw bad(`cluster size is 1024 << ${s.logClusterSize}, block size ${blockSize}`);
  const clusterRatio = bigalloc ? 2 ** (s.logClusterSize - s.logBlockSize) : 1;
  const bit64 = (incompat & INCOMPAT.bit64) !== 0;
  const blocks = s.blocksCountLo + (bit64 ? s.blocksCountHi * 2 ** 32 : 0);
  const reservedBlocks = s.rBlocksCountLo + (bit64 ? s.rBlocksCountHi * 2 ** 32 : 0);
  const maxPerGroup = 8 * blockSize;
  if (s.blocksPerGroup === 0 || s.blocksPerGroup > maxPerGroup * clusterRatio)
    throw bad(`${s.blocksPerGroup} blocks in a group (at most ${maxPerGroup * clusterRatio})`);
  if (s.firstDataBlock >= blocks || !Number.isSafeInteger(blocks * blockSize))
    throw bad(`${blocks} blocks of ${blockSize} bytes, the first is ${s.firstDataBlock}`);
  const inodeSize = dynamic ? s.inodeSize : 128;
  if (inodeSize < 128 || inodeSize > blockSize || !isPowerOfTwo(inodeSize)) throw bad(`inode size is ${inodeSize}`);
  if (s.inodesPerGroup === 0 || s.inodesPerGroup > maxPerGroup)
    throw bad(`${s.inodesPerGroup} inodes in a group (at most ${maxPerGroup})`);
  const descSize = bit64 ? s.descSize : 32;
  if (bit64 && (descSize < 64 || descSize > 1024 || descSize > blockSize || !isPowerOfTwo(descSize)))
    throw bad(`group descriptors of ${descSize} bytes (64 to 1024, a power of two)`);
  const groups = Math.ceil((blocks - s.firstDataBlock) / s.blocksPerGroup);
  if (groups > 2 ** 32 || s.inodesCount > groups * s.inodesPerGroup)
    throw bad(`${s.inodesCount} inodes in ${groups} groups of ${s.inodesPerGroup}`);
  const uuid = s.uuid;
  const seedBytes = s.hashSeed;
  const seed = new DataView(seedBytes.buffer, seedBytes.byteOffset, 16);
  const label = cString(s.volumeName);
  return {
    signature: signatureOf(raw) ?? {
      type: 'ext4',
      ...(uuid.some((b) => b !== 0) ? { uuid: uuidText(uuid) } : {}),
      ...(label !== '' ? { label } : {}),
    },
    uuid,
    fromGroup: group,
    inodes: s.inodesCount,
    blocks,
    reservedBlocks,
    firstDataBlock: s.firstDataBlock,
    blockSize,
    clusterRatio,
    blocksPerGroup: s.blocksPerGroup,
    inodesPerGroup: s.inodesPerGroup,
    groups,
    inodeSize,
    firstIno: dynamic ? s.firstIno : 11,
    descSize,
    compat,
    incompat,
    roCompat,
    metaCsum,
    gdtCsum: !metaCsum && (roCompat & RO_COMPAT.gdtCsum) !== 0,
    csumSeed: incompat & INCOMPAT.csumSeed ? s.checksumSeed : crc32cRaw(uuid, 0xffffffff),
    hashSeed: Uint32Array.from([0, 4, 8, 12], (i) => seed.getUint32(i, true)),
    hashVersion: s.defHashVersion,
    hashUnsigned: (s.flags & 2) !== 0,
    journalInum: s.journalInum,
    journalDev: s.journalDev,
    lastOrphan: s.lastOrphan,
    orphanFileInum: s.orphanFileInum,
    reservedGdtBlocks: s.reservedGdtBlocks,
    firstMetaBg: s.firstMetaBg,
    overheadClusters: s.overheadClusters,
    backupGroups: [s.backupBgs0, s.backupBgs1],
    state: s.state,
  };
}

function featureNames(bits: number): string {
  const names = UNREADABLE.filter(([bit]) => bits & bit).map(([, name]) => name);
  const rest = UNREADABLE.reduce((n, [bit]) => n & ~bit, bits);
  return [...names, ...(rest !== 0 ? [hex(rest >>> 0)] : [])].join(', ');
}

/** Does this group hold a copy of the superblock? */
export function hasSuper(s: Super, group: number): boolean {
  if (group === 0) return true;
  if (s.compat & COMPAT.sparseSuper2) return group === s.backupGroups[0] || group === s.backupGroups[1];
  if (group <= 1 || !(s.roCompat & RO_COMPAT.sparseSuper)) return true;
  if (group % 2 === 0) return false;
  return [3, 5, 7].some((base) => {
    let n = base;
    while (n < group) n *= base;
    return n === group;
  });
}

/** The checksum a group descriptor should carry, or undefined where descriptors have none. */
export function descriptorChecksum(s: Super, group: number, raw: Uint8Array): number | undefined {
  if (!s.metaCsum && !s.gdtCsum) return undefined;
  const number = Uint8Array.of(group & 255, (group >>> 8) & 255, (group >>> 16) & 255, group >>> 24);
  if (s.metaCsum) {
    const copy = raw.slice();
    copy[0x1e] = 0;
    copy[0x1f] = 0;
    return crc32cRaw(copy, crc32cRaw(number, s.csumSeed)) & 0xffff;
  }
  let crc = crc16(number, crc16(s.uuid));
  crc = crc16(raw.subarray(0, 0x1e), crc);
  return raw.length > 0x20 ? crc16(raw.subarray(0x20), crc) : crc;
}
