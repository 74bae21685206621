import { bytes, struct, u8, u32, u64 } from '../../core/struct.js';

/** systemd journal files.  Names and offsets follow systemd.io/JOURNAL_FILE_FORMAT and journal-def.h. */
export const SIGNATURE = 'LPKSHHRH';

export const Header = struct('journal header', 'le', 208, {
  signature: bytes(0, 8),
  compatibleFlags: u32(8),
  incompatibleFlags: u32(12),
  state: u8(16),
  fileId: bytes(24, 16),
  machineId: bytes(40, 16),
  seqnumId: bytes(72, 16),
  headerSize: u64(88),
  arenaSize: u64(96),
  tailObjectOffset: u64(136),
  nObjects: u64(144),
  nEntries: u64(152),
  tailEntrySeqnum: u64(160),
  headEntrySeqnum: u64(168),
  entryArrayOffset: u64(176),
  headEntryRealtime: u64(184),
  tailEntryRealtime: u64(192),
});

export const Incompatible = { compressedXz: 1, compressedLz4: 2, keyedHash: 4, compressedZstd: 8, compact: 16 } as const;
export const KNOWN_INCOMPATIBLE = 31;

export const ObjectType = { data: 1, field: 2, entry: 3, dataHashTable: 4, fieldHashTable: 5, entryArray: 6, tag: 7 } as const;
/** Flags of a data object: how its payload is compressed. */
export const Compression = { xz: 1, lz4: 2, zstd: 4 } as const;

/** Every object starts with type, flags, six reserved bytes and its size. */
export const OBJECT_HEADER = 16;
export const Data = { payload: 64, compactPayload: 72 } as const;
export const Entry = { seqnum: 16, realtime: 24, monotonic: 32, bootId: 40, xorHash: 56, items: 64 } as const;
export const EntryArray = { next: 16, items: 24 } as const;

/** journald's own ceiling of fields an entry. */
export const MAX_FIELDS = 1024;
/** Bytes of one field that are still read; journald writes at most 768 MiB, and only old core dumps are near that. */
export const MAX_FIELD_BYTES = 64 << 20;
