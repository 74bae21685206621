/**
 * XFS on-disk structs, big endian.  Names and offsets follow "XFS Algorithms & Data Structures"
 * (https://mirrors.edge.kernel.org/pub/linux/utils/fs/xfs/docs/xfs_filesystem_structure.pdf).  Checksums are the one little-endian thing.
 */
import { bytes, i32, struct, u8, u16, u32, u64, u64bits } from '../../core/struct.js';

export const SUPER_MAGIC = 0x58465342;

export const Superblock = struct('xfs superblock', 'be', 264, {
  magic: u32(0),
  blockSize: u32(4),
  dblocks: u64(8),
  rblocks: u64(16),
  uuid: bytes(32, 16),
  logStart: u64(48),
  rootIno: u64bits(56),
  agBlocks: u32(84),
  agCount: u32(88),
  logBlocks: u32(96),
  versionNum: u16(100),
  sectSize: u16(102),
  inodeSize: u16(104),
  inopBlock: u16(106),
  fname: bytes(108, 12),
  blockLog: u8(120),
  sectLog: u8(121),
  inodeLog: u8(122),
  inopbLog: u8(123),
  agBlkLog: u8(124),
  inProgress: u8(126),
  imaxPct: u8(127),
  icount: u64(128),
  ifree: u64(136),
  fdblocks: u64(144),
  dirBlkLog: u8(192),
  features2: u32(200),
  roCompat: u32(212),
  incompat: u32(216),
  metaUuid: bytes(248, 16),
});
export const SUPER_CRC = 224;

export const VERSION = {
  number: 0x000f,
  logV2: 0x0400,
  dirV2: 0x2000,
  asciiCi: 0x4000,
  moreBits: 0x8000,
} as const;
export const FEATURES2 = { lazyCount: 0x2, ftype: 0x200 } as const;
export const INCOMPAT = {
  ftype: 0x1,
  sparseInodes: 0x2,
  metaUuid: 0x4,
  bigtime: 0x8,
  needsRepair: 0x10,
  nrext64: 0x20,
  exchangeRange: 0x40,
  parent: 0x80,
  metadir: 0x100,
} as const;
/** Known bits that change where data is in a way this driver does not follow. */
export const INCOMPAT_NAMES: readonly [number, string][] = [
  [0x200, 'zoned'],
  [0x400, 'zone_gaps'],
];

export const AGF_MAGIC = 0x58414746;
export const Agf = struct('xfs AGF', 'be', 224, {
  magic: u32(0),
  seqno: u32(8),
  flcount: u32(48),
  freeblks: u32(52),
  btreeblks: u32(60),
});
export const AGF_CRC = 216;
export const AGI_MAGIC = 0x58414749;
export const Agi = struct('xfs AGI', 'be', 344, {
  magic: u32(0),
  seqno: u32(8),
  count: u32(16),
  freecount: u32(28),
});
export const AGI_CRC = 312;

export const INODE_MAGIC = 0x494e;
export const InodeCore = struct('xfs inode', 'be', 100, {
  magic: u16(0),
  mode: u16(2),
  version: u8(4),
  format: u8(5),
  onlink: u16(6),
  uid: u32(8),
  gid: u32(12),
  nlink: u32(16),
  /** With the nrext64 flag only. */
  bigNextents: u64(24),
  sizeHi: u32(56),
  sizeLo: u32(60),
  nblocks: u64(64),
  /** Extents of the data fork; with the nrext64 flag those of the attribute fork. */
  nextents: u32(76),
  anextents: u16(80),
  forkoff: u8(82),
  aformat: u8(83),
  flags: u16(90),
});
export const INODE_TIME = { atime: 32, mtime: 40, ctime: 48, crtime: 144 } as const;
/** What a version 3 inode has besides. */
export const InodeV3 = struct('xfs inode v3', 'be', 176, {
  flags2: u64bits(120),
  ino: u64bits(152),
  uuid: bytes(160, 16),
});
export const INODE_CRC = 100;
export const FLAG_REALTIME = 0x1;
export const FLAGS2 = { bigtime: 0x8, nrext64: 0x10 } as const;
export const FORMAT = { dev: 0, local: 1, extents: 2, btree: 3 } as const;
export const LegacyTime = struct('xfs timestamp', 'be', 8, { sec: i32(0), nsec: u32(4) });

/** Where a self-describing (version 5) block keeps these things. */
export interface HeaderLayout {
  readonly crc: number;
  readonly blkno: number;
  readonly uuid: number;
  readonly owner: number;
}
export const BMBT_LAYOUT: HeaderLayout = { crc: 64, blkno: 24, uuid: 40, owner: 56 };
export const DATA_LAYOUT: HeaderLayout = { crc: 4, blkno: 8, uuid: 24, owner: 40 };
export const DA_LAYOUT: HeaderLayout = { crc: 12, blkno: 16, uuid: 32, owner: 48 };
/** Remote attribute values and remote links. */
export const REMOTE_LAYOUT: HeaderLayout = { crc: 12, blkno: 40, uuid: 16, owner: 32 };

/** Magic numbers of version 4 and version 5 forms. */
export const BMBT_MAGIC = [0x424d4150, 0x424d4133] as const;
export const DIR_BLOCK_MAGIC = [0x58443242, 0x58444233] as const;
export const DIR_DATA_MAGIC = [0x58443244, 0x58444433] as const;
export const DA_NODE_MAGIC = [0xfebe, 0x3ebe] as const;
export const DIR_LEAF1_MAGIC = [0xd2f1, 0x3df1] as const;
export const DIR_LEAFN_MAGIC = [0xd2ff, 0x3dff] as const;
export const ATTR_LEAF_MAGIC = [0xfbee, 0x3bee] as const;
export const ATTR_REMOTE_MAGIC = 0x5841524d;
export const SYMLINK_MAGIC = 0x58534c4d;
export const REMOTE_HEADER = 56;

/** Bytes of the long-form B-tree header, version 4 and 5. */
export const BMBT_HEADER = [24, 72] as const;
/** Bytes before the first entry of a directory data block. */
export const DATA_HEADER = [16, 64] as const;

/** Where the hash index of a directory starts in its data fork's address space. */
export const DIR_LEAF_OFFSET = 2 ** 35;

export const ATTR = { local: 0x01, root: 0x02, secure: 0x04, parent: 0x08, incomplete: 0x80 } as const;
