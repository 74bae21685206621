import { bytes, struct, u8, u16, u32, u64, u64bits } from '../../core/struct.js';

/** qcow2 on-disk layout: QEMU, docs/interop/qcow2.rst.  All numbers are big endian. */
export const MAGIC = 0x514649fb;

export const HeaderStruct = struct('qcow2 header', 'be', 112, {
  magic: u32(0),
  version: u32(4),
  backingOffset: u64(8),
  backingSize: u32(16),
  clusterBits: u32(20),
  size: u64(24),
  cryptMethod: u32(32),
  l1Size: u32(36),
  l1Offset: u64(40),
  refcountTableOffset: u64(48),
  refcountTableClusters: u32(56),
  snapshotCount: u32(60),
  snapshotsOffset: u64(64),
  incompatible: u64bits(72),
  compatible: u64bits(80),
  autoclear: u64bits(88),
  refcountOrder: u32(96),
  headerLength: u32(100),
  compressionType: u8(104),
});
/** Version 2 ends before the feature bits. */
export const V2_LENGTH = 72;
export const V3_LENGTH = 104;
/** What we write: with the compression type. */
export const FULL_LENGTH = 112;

export const INCOMPAT_DIRTY = 1n;
export const INCOMPAT_CORRUPT = 2n;
export const INCOMPAT_DATA_FILE = 4n;
export const INCOMPAT_COMPRESSION = 8n;
export const INCOMPAT_EXTENDED_L2 = 16n;
export const INCOMPAT_KNOWN = 31n;
export const COMPAT_LAZY = 1n;
export const AUTOCLEAR_BITMAPS = 1n;
export const AUTOCLEAR_RAW_DATA = 2n;
export const AUTOCLEAR_KNOWN = 3n;

export const EXT_END = 0;
export const EXT_BACKING_FORMAT = 0xe2792aca;
export const EXT_FEATURE_NAMES = 0x6803f857;
export const EXT_BITMAPS = 0x23852875;
export const EXT_CRYPT = 0x0537be77;
export const EXT_DATA_FILE = 0x44415441;

export const SnapshotStruct = struct('qcow2 snapshot', 'be', 40, {
  l1Offset: u64(0),
  l1Size: u32(8),
  idSize: u16(12),
  nameSize: u16(14),
  dateSec: u32(16),
  dateNsec: u32(20),
  vmClock: u64bits(24),
  vmStateSize: u32(32),
  extraSize: u32(36),
});

export const BitmapsExtension = struct('qcow2 bitmaps extension', 'be', 24, {
  count: u32(0),
  directorySize: u64(8),
  directoryOffset: u64(16),
});
export const BitmapStruct = struct('qcow2 bitmap', 'be', 24, {
  tableOffset: u64(0),
  tableSize: u32(8),
  flags: u32(12),
  type: u8(16),
  granularityBits: u8(17),
  nameSize: u16(18),
  extraSize: u32(20),
});
export const BITMAP_IN_USE = 1;
export const BITMAP_AUTO = 2;
export const BITMAP_EXTRA_COMPATIBLE = 4;

export const CryptExtension = struct('qcow2 encryption header pointer', 'be', 16, { offset: u64(0), length: u64(8) });
export const FeatureName = struct('qcow2 feature name', 'be', 48, { kind: u8(0), bit: u8(1), name: bytes(2, 46) });

/** High words of table entries: bit 63 ("refcount is exactly one") and bit 62 ("compressed"). */
export const COPIED = 0x80000000;
export const COMPRESSED_FLAG = 0x40000000;
/** Low word of a standard L2 entry: reads as zeroes. */
export const ZERO_FLAG = 1;

/** QEMU's own ceilings: what it does not open, nobody writes. */
export const MAX_L1_BYTES = 32 << 20;
export const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_TABLE_BYTES = 1024 * MAX_SNAPSHOTS;
export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * MAX_BITMAPS;
export const MAX_BACKING_NAME = 1023;
export const MAX_EXTENSIONS = 1024;
