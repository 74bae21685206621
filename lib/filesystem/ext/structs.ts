/** ext2/3/4 on-disk structs.  Names and offsets follow Documentation/filesystems/ext4 in the kernel tree. */
import { bytes, i32, struct, u8, u16, u32 } from '../../core/struct.js';

export const SUPER_OFFSET = 1024;
export const SUPER_MAGIC = 0xef53;
export const ROOT_INO = 2;

export const Superblock = struct('ext superblock', 'le', 1024, {
  inodesCount: u32(0x0),
  blocksCountLo: u32(0x4),
  rBlocksCountLo: u32(0x8),
  freeBlocksCountLo: u32(0xc),
  freeInodesCount: u32(0x10),
  firstDataBlock: u32(0x14),
  logBlockSize: u32(0x18),
  logClusterSize: u32(0x1c),
  blocksPerGroup: u32(0x20),
  clustersPerGroup: u32(0x24),
  inodesPerGroup: u32(0x28),
  magic: u16(0x38),
  state: u16(0x3a),
  creatorOs: u32(0x48),
  revLevel: u32(0x4c),
  firstIno: u32(0x54),
  inodeSize: u16(0x58),
  featureCompat: u32(0x5c),
  featureIncompat: u32(0x60),
  featureRoCompat: u32(0x64),
  uuid: bytes(0x68, 16),
  volumeName: bytes(0x78, 16),
  reservedGdtBlocks: u16(0xce),
  journalInum: u32(0xe0),
  journalDev: u32(0xe4),
  lastOrphan: u32(0xe8),
  hashSeed: bytes(0xec, 16),
  defHashVersion: u8(0xfc),
  descSize: u16(0xfe),
  firstMetaBg: u32(0x104),
  blocksCountHi: u32(0x150),
  rBlocksCountHi: u32(0x154),
  freeBlocksCountHi: u32(0x158),
  flags: u32(0x160),
  checksumType: u8(0x175),
  overheadClusters: u32(0x248),
  backupBgs0: u32(0x24c),
  backupBgs1: u32(0x250),
  checksumSeed: u32(0x270),
  encoding: u16(0x27c),
  encodingFlags: u16(0x27e),
  orphanFileInum: u32(0x280),
  checksum: u32(0x3fc),
});

export const GroupDescriptor = struct('ext group descriptor', 'le', 32, {
  blockBitmapLo: u32(0x0),
  inodeBitmapLo: u32(0x4),
  inodeTableLo: u32(0x8),
  freeBlocksCountLo: u16(0xc),
  freeInodesCountLo: u16(0xe),
  flags: u16(0x12),
  checksum: u16(0x1e),
});
export const GroupDescriptorHi = struct('ext 64-bit group descriptor', 'le', 64, {
  blockBitmapHi: u32(0x20),
  inodeBitmapHi: u32(0x24),
  inodeTableHi: u32(0x28),
  freeBlocksCountHi: u16(0x2c),
  freeInodesCountHi: u16(0x2e),
});

/** The first 128 bytes, which every revision has. */
export const InodeCore = struct('ext inode', 'le', 128, {
  mode: u16(0x0),
  uidLo: u16(0x2),
  sizeLo: u32(0x4),
  atime: i32(0x8),
  ctime: i32(0xc),
  mtime: i32(0x10),
  dtime: u32(0x14),
  gidLo: u16(0x18),
  linksCount: u16(0x1a),
  blocksLo: u32(0x1c),
  flags: u32(0x20),
  block: bytes(0x28, 60),
  generation: u32(0x64),
  fileAclLo: u32(0x68),
  sizeHigh: u32(0x6c),
  blocksHigh: u16(0x74),
  fileAclHigh: u16(0x76),
  uidHigh: u16(0x78),
  gidHigh: u16(0x7a),
  checksumLo: u16(0x7c),
});
/** Fields past 128 bytes exist only as far as `extraIsize` says. */
export const InodeExtra = struct('ext large inode', 'le', 160, {
  extraIsize: u16(0x80),
  checksumHi: u16(0x82),
  ctimeExtra: u32(0x84),
  mtimeExtra: u32(0x88),
  atimeExtra: u32(0x8c),
  crtime: i32(0x90),
  crtimeExtra: u32(0x94),
  projid: u32(0x9c),
});

export const EXTENT_MAGIC = 0xf30a;
export const ExtentHeader = struct('ext4 extent header', 'le', 12, {
  magic: u16(0x0),
  entries: u16(0x2),
  max: u16(0x4),
  depth: u16(0x6),
});
export const Extent = struct('ext4 extent', 'le', 12, { block: u32(0x0), len: u16(0x4), startHi: u16(0x6), startLo: u32(0x8) });
export const ExtentIndex = struct('ext4 extent index', 'le', 12, { block: u32(0x0), leafLo: u32(0x4), leafHi: u16(0x8) });
/** A longer extent is allocated but not written: this much less long, reads as zeroes. */
export const EXTENT_MAX_WRITTEN = 32768;

export const Dirent = struct('ext directory entry', 'le', 8, {
  inode: u32(0x0),
  recLen: u16(0x4),
  nameLen: u8(0x6),
  fileType: u8(0x7),
});
/** The fake entry at the end of a checksummed directory block. */
export const DIRENT_TAIL_TYPE = 0xde;

export const XATTR_MAGIC = 0xea020000;
export const XattrHeader = struct('ext xattr block header', 'le', 32, {
  magic: u32(0x0),
  refcount: u32(0x4),
  blocks: u32(0x8),
  hash: u32(0xc),
  checksum: u32(0x10),
});
export const XattrEntry = struct('ext xattr entry', 'le', 16, {
  nameLen: u8(0x0),
  nameIndex: u8(0x1),
  valueOffs: u16(0x2),
  valueInum: u32(0x4),
  valueSize: u32(0x8),
  hash: u32(0xc),
});

export const COMPAT = {
  hasJournal: 0x4,
  resizeInode: 0x10,
  dirIndex: 0x20,
  sparseSuper2: 0x200,
  fastCommit: 0x400,
  orphanFile: 0x1000,
} as const;
export const INCOMPAT = {
  compression: 0x1,
  filetype: 0x2,
  recover: 0x4,
  journalDev: 0x8,
  metaBg: 0x10,
  extents: 0x40,
  bit64: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  eaInode: 0x400,
  dirdata: 0x1000,
  csumSeed: 0x2000,
  largedir: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const;
export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  btreeDir: 0x4,
  hugeFile: 0x8,
  gdtCsum: 0x10,
  bigalloc: 0x200,
  metadataCsum: 0x400,
  orphanPresent: 0x10000,
} as const;
/** Named as dumpe2fs names them, for messages about what we cannot read. */
export const UNREADABLE: readonly (readonly [number, string])[] = [
  [INCOMPAT.compression, 'compression'],
  [INCOMPAT.dirdata, 'dirdata'],
];
export const READABLE =
  INCOMPAT.filetype |
  INCOMPAT.recover |
  INCOMPAT.metaBg |
  INCOMPAT.extents |
  INCOMPAT.bit64 |
  INCOMPAT.mmp |
  INCOMPAT.flexBg |
  INCOMPAT.eaInode |
  INCOMPAT.csumSeed |
  INCOMPAT.largedir |
  INCOMPAT.inlineData |
  INCOMPAT.encrypt |
  INCOMPAT.casefold;

export const INODE_FLAG = {
  encrypt: 0x800,
  index: 0x1000,
  hugeFile: 0x40000,
  extents: 0x80000,
  verity: 0x100000,
  eaInode: 0x200000,
  inlineData: 0x10000000,
  casefold: 0x40000000,
} as const;

export const JBD2_MAGIC = 0xc03b3998;
export const JournalHeader = struct('journal block header', 'be', 12, {
  magic: u32(0x0),
  blocktype: u32(0x4),
  sequence: u32(0x8),
});
export const JournalSuper = struct('journal superblock', 'be', 1024, {
  blocktype: u32(0x4),
  blocksize: u32(0xc),
  maxlen: u32(0x10),
  first: u32(0x14),
  sequence: u32(0x18),
  start: u32(0x1c),
  featureCompat: u32(0x24),
  featureIncompat: u32(0x28),
  uuid: bytes(0x30, 16),
  numFcBlocks: u32(0x54),
  checksum: u32(0xfc),
});
export const CommitHeader = struct('journal commit block', 'be', 60, {
  chksumType: u8(0xc),
  chksumSize: u8(0xd),
  chksum: u32(0x10),
  commitSecHi: u32(0x30),
  commitSecLo: u32(0x34),
});
export const RevokeHeader = struct('journal revoke block', 'be', 16, { count: u32(0xc) });

/** Kinds of blocks in a journal. */
export const JOURNAL_BLOCK = { descriptor: 1, commit: 2, superV1: 3, superV2: 4, revoke: 5 } as const;
export const JOURNAL_COMPAT_CHECKSUM = 0x1;
export const JOURNAL_INCOMPAT = {
  revoke: 0x1,
  bit64: 0x2,
  asyncCommit: 0x4,
  csumV2: 0x8,
  csumV3: 0x10,
  fastCommit: 0x20,
} as const;
export const TAG_FLAG = { escape: 1, sameUuid: 2, deleted: 4, last: 8 } as const;
