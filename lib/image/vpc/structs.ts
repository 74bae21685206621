/** Microsoft "Virtual Hard Disk Image Format Specification", version 1.0 (2006).  Everything is big endian. */
import { bytes, struct, u8, u16, u32, u64, u64bits } from '../../core/struct.js';

export const SECTOR = 512;
export const FOOTER_BYTES = 512;
export const COOKIE = 'conectix';
export const SPARSE_COOKIE = 'cxsparse';

export const Footer = struct('VHD footer', 'be', 512, {
  cookie: bytes(0, 8),
  features: u32(8),
  version: u32(12),
  dataOffset: u64bits(16),
  timestamp: u32(24),
  creatorApplication: bytes(28, 4),
  creatorVersion: u32(32),
  creatorOs: bytes(36, 4),
  originalSize: u64(40),
  currentSize: u64(48),
  cylinders: u16(56),
  heads: u8(58),
  sectorsPerTrack: u8(59),
  diskType: u32(60),
  checksum: u32(64),
  uniqueId: bytes(68, 16),
  savedState: u8(84),
});
export const diskType = { fixed: 2, dynamic: 3, differencing: 4 } as const;

export const DynamicHeader = struct('VHD dynamic disk header', 'be', 1024, {
  cookie: bytes(0, 8),
  dataOffset: u64bits(8),
  tableOffset: u64(16),
  version: u32(24),
  maxTableEntries: u32(28),
  blockSize: u32(32),
  checksum: u32(36),
  parentUniqueId: bytes(40, 16),
  parentTimestamp: u32(56),
  parentName: bytes(64, 512),
  locators: bytes(576, 192),
});
export const ParentLocator = struct('VHD parent locator', 'be', 24, {
  platform: u32(0),
  dataSpace: u32(4),
  dataLength: u32(8),
  dataOffset: u64(16),
});
export const LOCATORS = 8;
export const platform = {
  wi2r: 0x57693272,
  wi2k: 0x5769326b,
  w2ru: 0x57327275,
  w2ku: 0x57326b75,
  mac: 0x4d616320,
  macX: 0x4d616358,
} as const;

/** BAT entry of a block that was never written. */
export const UNUSED = 0xffffffff;
/** Seconds from 1970 to 2000, where VHD time begins. */
export const EPOCH = 946684800;

/** Ones' complement of the sum of all bytes, the checksum field itself taken as zero. */
export function checksumOf(b: Uint8Array, checksumAt: number): number {
  let sum = 0;
  for (let i = 0; i < b.length; i++) if (i < checksumAt || i >= checksumAt + 4) sum += b[i]!;
  return ~sum >>> 0;
}
