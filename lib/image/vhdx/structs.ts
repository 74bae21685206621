/** Microsoft "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format".  Everything is little endian. */
import { guidText } from '../../core/bytes.js';
import { crc32cRaw } from '../../core/checksum.js';
import { bytes, struct, u16, u32, u64 } from '../../core/struct.js';

export const KIB = 1024;
export const MIB = 1 << 20;
export const FILE_ID = 'vhdxfile';
export const HEADERS = [64 * KIB, 128 * KIB] as const;
export const REGION_TABLES = [192 * KIB, 256 * KIB] as const;
export const HEADER_BYTES = 4 * KIB;
export const REGION_TABLE_BYTES = 64 * KIB;
export const METADATA_TABLE_BYTES = 64 * KIB;
export const MAX_TABLE_ENTRIES = 2047;

const tag = (s: string) => new DataView(Uint8Array.from(s, (c) => c.charCodeAt(0)).buffer).getUint32(0, true);
export const HEAD = tag('head');
export const REGI = tag('regi');
export const LOGE = tag('loge');
export const DESC = tag('desc');
export const ZERO = tag('zero');
export const DATA = tag('data');

export const Header = struct('VHDX header', 'le', 80, {
  signature: u32(0),
  checksum: u32(4),
  sequenceNumber: u64(8),
  fileWriteGuid: bytes(16, 16),
  dataWriteGuid: bytes(32, 16),
  logGuid: bytes(48, 16),
  logVersion: u16(64),
  version: u16(66),
  logLength: u32(68),
  logOffset: u64(72),
});
export const RegionTable = struct('VHDX region table', 'le', 16, { signature: u32(0), checksum: u32(4), entryCount: u32(8) });
export const RegionEntry = struct('VHDX region', 'le', 32, {
  guid: bytes(0, 16),
  fileOffset: u64(16),
  length: u32(24),
  required: u32(28),
});
export const MetadataTable = struct('VHDX metadata table', 'le', 32, { signature: bytes(0, 8), entryCount: u16(10) });
export const MetadataEntry = struct('VHDX metadata item', 'le', 32, {
  id: bytes(0, 16),
  offset: u32(16),
  length: u32(20),
  flags: u32(24),
});
export const metadataFlag = { user: 1, disk: 2, required: 4 } as const;
export const ParentLocator = struct('VHDX parent locator', 'le', 20, { type: bytes(0, 16), keyValueCount: u16(18) });
export const LocatorEntry = struct('VHDX parent locator entry', 'le', 12, {
  keyOffset: u32(0),
  valueOffset: u32(4),
  keyLength: u16(8),
  valueLength: u16(10),
});

export const LOG_SECTOR = 4 * KIB;
export const LogEntry = struct('VHDX log entry', 'le', 64, {
  signature: u32(0),
  checksum: u32(4),
  entryLength: u32(8),
  tail: u32(12),
  sequenceNumber: u64(16),
  descriptorCount: u32(24),
  logGuid: bytes(32, 16),
  flushedFileOffset: u64(48),
  lastFileOffset: u64(56),
});
/** A data descriptor; in a zero descriptor `leading` is the length to be zeroed. */
export const LogDescriptor = struct('VHDX log descriptor', 'le', 32, {
  signature: u32(0),
  trailing: bytes(4, 4),
  leading: bytes(8, 8),
  zeroLength: u64(8),
  fileOffset: u64(16),
  sequenceNumber: u64(24),
});
export const LogData = struct('VHDX log data sector', 'le', 4096, {
  signature: u32(0),
  sequenceHigh: u32(4),
  data: bytes(8, 4084),
  sequenceLow: u32(4092),
});

export const region = { bat: '2DC27766-F623-4200-9D64-115E9BFD4A08', metadata: '8B7CA206-4790-4B9A-B8FE-575F050F886E' } as const;
export const item = {
  fileParameters: 'CAA16737-FA36-4D43-B3B6-33F0AA44E76B',
  virtualDiskSize: '2FA54224-CD1B-4876-B211-5DBED83BF4B8',
  virtualDiskId: 'BECA12AB-B2E6-4523-93EF-C309E000C746',
  logicalSectorSize: '8141BF1D-A96F-4709-BA47-F233A8FAAB5F',
  physicalSectorSize: 'CDA348C7-445D-4471-9CC9-E9885251C556',
  parentLocator: 'A8D35F2D-B30B-454D-ABF7-D3D84834AB0C',
} as const;
export const VHDX_LOCATOR = 'B04AEFB7-D19E-4A81-B789-25B8E9445913';

/** Payload block states, the low three bits of a BAT entry; the file offset in MiB is in bits 20 to 63. */
export const state = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, fullyPresent: 6, partiallyPresent: 7 } as const;

/** The 16 bytes of a GUID written as text. */
export function guidBytes(text: string): Uint8Array {
  const h = text.replaceAll('-', '');
  const b = Uint8Array.from({ length: 16 }, (_x, i) => Number.parseInt(h.slice(i * 2, i * 2 + 2), 16));
  return Uint8Array.from([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15], (i) => b[i]!);
}
export { guidText };

const NO_CHECKSUM = new Uint8Array(4);
/** CRC-32C of `b`, its own field at bytes 4 to 7 taken as zero. */
export function checksumOf(b: Uint8Array): number {
  let c = crc32cRaw(b.subarray(0, 4), 0xffffffff);
  c = crc32cRaw(NO_CHECKSUM, c);
  return ~crc32cRaw(b.subarray(8), c) >>> 0;
}
