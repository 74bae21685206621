import { type BlockSource, readAt, readUpTo } from '../../block/source.js';
import { crc32 } from '../../core/checksum.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { latin1, utf8 } from '../../core/text.js';
import {
  CRC_SEED,
  DiskLocation,
  LABEL_ID,
  LABEL_SECTORS,
  LABEL_TYPE,
  Label,
  MDA_HEADER_BYTES,
  MDA_MAGIC,
  MdaHeader,
  PvHeader,
  RAW_LOCATION_IGNORED,
  RawLocation,
  SECTOR,
} from './structs.js';

/** LVM's CRC-32: its own seed, no inversion. */
export const lvmCrc = (b: Uint8Array): number => ~crc32(b, ~CRC_SEED >>> 0) >>> 0;

export interface PvLabel {
  /** With dashes, as pvs prints it. */
  readonly uuid: string;
  readonly deviceSize: number;
  readonly metadataAreas: readonly { readonly offset: number; readonly size: number }[];
}

/** LVM's 32 characters as 6-4-4-4-4-4-6. */
export function dashed(uuid: string): string {
  if (uuid.length !== 32) return uuid;
  const cuts = [0, 6, 10, 14, 18, 22, 26, 32];
  return cuts
    .slice(1)
    .map((end, i) => uuid.slice(cuts[i], end))
    .join('-');
}

/** The PV label in the first four sectors; undefined when there is none.  A label with a bad checksum is none. */
export function readLabel(source: BlockSource): PvLabel | undefined {
  const head = readUpTo(source, 0, LABEL_SECTORS * SECTOR);
  for (let i = 0; (i + 1) * SECTOR <= head.length; i++) {
    const sector = head.subarray(i * SECTOR, (i + 1) * SECTOR);
    const l = Label.at(sector);
    if (latin1(l.id) !== LABEL_ID || latin1(l.type) !== LABEL_TYPE) continue;
    if (lvmCrc(sector.subarray(20)) !== l.crc) continue;
    const at = l.contentOffset;
    if (at < Label.size || at + PvHeader.size > SECTOR) continue;
    const pv = PvHeader.at(sector, at);
    const lists: { offset: number; size: number }[][] = [[], []];
    let pos = at + PvHeader.size;
    for (const list of lists)
      for (; pos + DiskLocation.size <= SECTOR; pos += DiskLocation.size) {
        const d = DiskLocation.at(sector, pos);
        if (d.offset === 0) {
          pos += DiskLocation.size;
          break;
        }
        list.push({ offset: d.offset, size: d.size });
      }
    return { uuid: dashed(latin1(pv.uuid)), deviceSize: pv.deviceSize, metadataAreas: lists[1]! };
  }
  return undefined;
}

/** The current metadata text of one area; undefined when the area holds none (orphan PV, ignored copy).  Checksums verified. */
export function readMetadata(source: BlockSource, area: { readonly offset: number; readonly size: number }): string | undefined {
  const header = readAt(source, area.offset, MDA_HEADER_BYTES);
  const h = MdaHeader.at(header);
  if (latin1(h.magic) !== MDA_MAGIC)
    throw corrupt(`LVM metadata area at ${hex(area.offset)} has no signature`, { offset: area.offset });
  const crc = lvmCrc(header.subarray(4));
  if (crc !== h.crc)
    throw corrupt(`LVM metadata area header at ${hex(area.offset)} has CRC ${hex(h.crc)}, expected ${hex(crc)}`, {
      offset: area.offset,
    });
  if (h.version !== 1)
    throw new GuestError('unsupported', `LVM metadata area version ${h.version} (known: 1)`, { offset: area.offset });
  const ring = h.size;
  const loc = RawLocation.at(header, MdaHeader.size);
  if (loc.offset === 0 || loc.size === 0 || (loc.flags & RAW_LOCATION_IGNORED) !== 0) return undefined;
  if (
    loc.offset < MDA_HEADER_BYTES ||
    loc.offset >= ring ||
    loc.size > Math.min(ring - MDA_HEADER_BYTES, limits.lvmMetadataBytes)
  )
    throw corrupt(`LVM metadata of ${loc.size} bytes at ${hex(loc.offset)} leaves its area of ${ring} bytes`, {
      offset: area.offset,
    });
  // A ring: what does not fit before the end of the area goes on after the header.
  const first = Math.min(loc.size, ring - loc.offset);
  const text = new Uint8Array(loc.size);
  text.set(readAt(source, area.offset + loc.offset, first));
  if (first < loc.size) text.set(readAt(source, area.offset + MDA_HEADER_BYTES, loc.size - first), first);
  const textCrc = lvmCrc(text);
  if (textCrc !== loc.crc)
    throw corrupt(`LVM metadata text at ${hex(area.offset + loc.offset)} has CRC ${hex(textCrc)}, expected ${hex(loc.crc)}`, {
      offset: area.offset + loc.offset,
    });
  return utf8(text);
}
