/** LVM2 on-disk labels (lvm2's lib/format_text/layout.h and lib/label/label.h describe the layout). */
import { bytes, struct, u32, u64 } from '../../core/struct.js';

export const SECTOR = 512;
/** The label may stand in any of the first four sectors. */
export const LABEL_SECTORS = 4;
export const LABEL_ID = 'LABELONE';
export const LABEL_TYPE = 'LVM2 001';
/** Seed of LVM's CRC-32, which is not inverted at the end. */
export const CRC_SEED = 0xf597a6cf;
export const MDA_MAGIC = ' LVM2 x[5A%r0N*>';
export const MDA_HEADER_BYTES = 512;

export const Label = struct('LVM label', 'le', 32, {
  id: bytes(0, 8),
  sector: u64(8),
  crc: u32(16),
  contentOffset: u32(20),
  type: bytes(24, 8),
});
export const PvHeader = struct('LVM physical volume header', 'le', 40, { uuid: bytes(0, 32), deviceSize: u64(32) });
/** Lists of these end with one that is all zero. */
export const DiskLocation = struct('LVM disk location', 'le', 16, { offset: u64(0), size: u64(8) });

export const MdaHeader = struct('LVM metadata area header', 'le', 40, {
  crc: u32(0),
  magic: bytes(4, 16),
  version: u32(20),
  start: u64(24),
  size: u64(32),
});
export const RawLocation = struct('LVM raw location', 'le', 24, { offset: u64(0), size: u64(8), crc: u32(16), flags: u32(20) });
export const RAW_LOCATION_IGNORED = 1;
