/** VirtualBox VDI, version 1.1 (the layout is described in VirtualBox's forum article "All about VDIs").  Little endian. */
import { bytes, struct, u32, u64 } from '../../core/struct.js';

export const SIGNATURE = 0xbeda107f;
export const VERSION_1_1 = 0x00010001;
export const HEADER_BYTES = 512;
export const BLOCK = 1 << 20;
export const SECTOR = 512;

export const Header = struct('VDI header', 'le', 456, {
  text: bytes(0, 64),
  signature: u32(0x40),
  version: u32(0x44),
  headerSize: u32(0x48),
  imageType: u32(0x4c),
  flags: u32(0x50),
  description: bytes(0x54, 256),
  offsetMap: u32(0x154),
  offsetData: u32(0x158),
  cylinders: u32(0x15c),
  heads: u32(0x160),
  sectors: u32(0x164),
  sectorSize: u32(0x168),
  diskSize: u64(0x170),
  blockSize: u32(0x178),
  blockExtra: u32(0x17c),
  blocksInImage: u32(0x180),
  blocksAllocated: u32(0x184),
  uuidImage: bytes(0x188, 16),
  uuidLastSnap: bytes(0x198, 16),
  uuidLink: bytes(0x1a8, 16),
  uuidParent: bytes(0x1b8, 16),
});
export const imageType = { dynamic: 1, static: 2, undo: 3, differencing: 4 } as const;
/** Map entries that are no block number: never written, and written but given back (zeroes). */
export const UNALLOCATED = 0xffffffff;
export const DISCARDED = 0xfffffffe;
/** Map entries at most: what fits a 32-bit map of 4 GiB, QEMU's ceiling too. */
export const MAX_BLOCKS = 0x1fffff80;
