/** Master boot record and extended boot records (IBM PC convention; the kernel's block/partitions/msdos.c behaves the same). */
import { struct, u8, u32 } from '../../core/struct.js';

export const TABLE_OFFSET = 446;
export const SIGNATURE_OFFSET = 440;

export const Entry = struct('MBR partition entry', 'le', 16, {
  status: u8(0),
  type: u8(4),
  firstSector: u32(8),
  sectors: u32(12),
});

/** DOS, Windows (LBA) and Linux extended partitions. */
export const EXTENDED: readonly number[] = [0x05, 0x0f, 0x85, 0xc5];
