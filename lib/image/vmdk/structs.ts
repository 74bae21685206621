/** VMware "Virtual Disk Format 5.0" (technical note), and the COWD and SESPARSE layouts that ESX writes beside it. */
import { corrupt, hex } from '../../core/errors.js';
import { bytes, struct, u8, u16, u32, u64, u64bits } from '../../core/struct.js';

export const SECTOR = 512;
export const KDMV = 0x564d444b;
export const COWD = 0x44574f43;

export const HostedHeader = struct('VMDK sparse header', 'le', 79, {
  magic: u32(0),
  version: u32(4),
  flags: u32(8),
  capacity: u64(12),
  grainSize: u64(20),
  descriptorOffset: u64(28),
  descriptorSize: u64(36),
  numGTEsPerGT: u32(44),
  rgdOffset: u64(48),
  gdOffset: u64bits(56),
  overHead: u64(64),
  uncleanShutdown: u8(72),
  newlineTest: bytes(73, 4),
  compressAlgorithm: u16(77),
});
export const flag = { newlineTest: 1, redundantGd: 2, zeroedGrain: 4, compressed: 0x10000, markers: 0x20000 } as const;
/** gdOffset when the true header is the footer at the end of the file. */
export const GD_AT_END = 0xffffffffffffffffn;
export const GTE_ZEROED = 1;

export const CowdHeader = struct('COWD header', 'le', 32, {
  magic: u32(0),
  version: u32(4),
  flags: u32(8),
  numSectors: u32(12),
  grainSize: u32(16),
  gdOffset: u32(20),
  numGDEntries: u32(24),
  freeSector: u32(28),
});
export const COWD_GTES = 4096;

export const SeSparseHeader = struct('SESPARSE header', 'le', 208, {
  magic: u64bits(0),
  version: u64bits(8),
  capacity: u64(16),
  grainSize: u64(24),
  grainTableSize: u64(32),
  flags: u64bits(40),
  volatileHeaderOffset: u64(80),
  volatileHeaderSize: u64(88),
  journalHeaderOffset: u64(96),
  journalHeaderSize: u64(104),
  journalOffset: u64(112),
  journalSize: u64(120),
  grainDirOffset: u64(128),
  grainDirSize: u64(136),
  grainTablesOffset: u64(144),
  grainTablesSize: u64(152),
  freeBitmapOffset: u64(160),
  freeBitmapSize: u64(168),
  backmapOffset: u64(176),
  backmapSize: u64(184),
  grainsOffset: u64(192),
  grainsSize: u64(200),
});
export const SeSparseVolatile = struct('SESPARSE volatile header', 'le', 32, {
  magic: u64bits(0),
  freeGtNumber: u64bits(8),
  nextTxnSeqNumber: u64bits(16),
  replayJournal: u8(24),
});
export const SESPARSE_MAGIC = 0xcafebaben;
export const SESPARSE_VOLATILE_MAGIC = 0xcafecafen;

/** Before a compressed grain: where it belongs and how long it is.  Length 0 is a marker of metadata, its kind in `type`. */
export const GrainMarker = struct('VMDK marker', 'le', 16, { value: u64(0), length: u32(8), type: u32(12) });
export const GRAIN_MARKER_BYTES = 12;
export const marker = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const;

/** A sector count of the header in bytes. */
export function sectors(n: number, what: string, label: string): number {
  const b = n * SECTOR;
  if (!Number.isSafeInteger(b)) throw corrupt(`${label}: ${what} of ${hex(n)} sectors is too large`);
  return b;
}
