/** GUID Partition Table: UEFI specification 2.10, chapter 5. */
import { bytes, struct, u32, u64, u64bits } from '../../core/struct.js';

export const SIGNATURE = 'EFI PART';

export const Header = struct('GPT header', 'le', 92, {
  signature: bytes(0, 8),
  revision: u32(8),
  headerSize: u32(12),
  headerCrc: u32(16),
  myLba: u64(24),
  alternateLba: u64(32),
  firstUsableLba: u64(40),
  lastUsableLba: u64(48),
  diskGuid: bytes(56, 16),
  entriesLba: u64(72),
  entryCount: u32(80),
  entrySize: u32(84),
  entriesCrc: u32(88),
});

export const Entry = struct('GPT partition entry', 'le', 128, {
  type: bytes(0, 16),
  id: bytes(16, 16),
  firstLba: u64(32),
  lastLba: u64(40),
  attributes: u64bits(48),
  name: bytes(56, 72),
});
