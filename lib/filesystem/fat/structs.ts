/** FAT12, FAT16 and FAT32 on-disk structs, after Microsoft's "FAT: General Overview of On-Disk Format" (fatgen103). */
import { bytes, struct, u8, u16, u32 } from '../../core/struct.js';

export const BootSector = struct('FAT boot sector', 'le', 512, {
  jump: bytes(0x0, 3),
  oem: bytes(0x3, 8),
  bytesPerSector: u16(0xb),
  sectorsPerCluster: u8(0xd),
  reservedSectors: u16(0xe),
  fats: u8(0x10),
  rootEntries: u16(0x11),
  totalSectors16: u16(0x13),
  media: u8(0x15),
  fatSize16: u16(0x16),
  totalSectors32: u32(0x20),
  /** FAT12 and FAT16 only. */
  serial16: u32(0x27),
  type16: bytes(0x36, 8),
  /** FAT32 only, as all below. */
  fatSize32: u32(0x24),
  extFlags: u16(0x28),
  rootCluster: u32(0x2c),
  fsInfoSector: u16(0x30),
  serial32: u32(0x43),
  type32: bytes(0x52, 8),
  signature: u16(0x1fe),
});

export const DirectoryEntry = struct('FAT directory entry', 'le', 32, {
  name: bytes(0x0, 11),
  attributes: u8(0xb),
  /** Windows NT keeps here which parts of a short name are in lower case. */
  lowerCase: u8(0xc),
  createdCentiseconds: u8(0xd),
  createdTime: u16(0xe),
  createdDate: u16(0x10),
  accessedDate: u16(0x12),
  clusterHi: u16(0x14),
  modifiedTime: u16(0x16),
  modifiedDate: u16(0x18),
  clusterLo: u16(0x1a),
  size: u32(0x1c),
});
export const LongEntry = struct('FAT long name entry', 'le', 32, {
  order: u8(0x0),
  type: u8(0xc),
  checksum: u8(0xd),
  cluster: u16(0x1a),
});
/** Where the 13 UTF-16 units of a long name entry are. */
export const LONG_UNITS = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30] as const;

export const ATTR = {
  readOnly: 0x01,
  hidden: 0x02,
  system: 0x04,
  volume: 0x08,
  directory: 0x10,
  archive: 0x20,
  long: 0x0f,
} as const;
export const DELETED = 0xe5;
export const LOWER_BASE = 0x08;
export const LOWER_EXTENSION = 0x10;
