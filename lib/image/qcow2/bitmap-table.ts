import { readAt } from '../../block/source.js';
import { corrupt, hex } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import { extensionOf } from './header.js';
import type { State } from './state.js';
import * as S from './structs.js';
import { readTable } from './table.js';

/** An entry of the bitmap directory. */
export interface BitmapEntry {
  readonly name: string;
  readonly tableOffset: number;
  readonly tableSize: number;
  flags: number;
  readonly type: number;
  readonly granularityBits: number;
  readonly extra: Uint8Array;
}

export interface BitmapDirectory {
  readonly offset: number;
  readonly bytes: number;
  readonly entries: BitmapEntry[];
  /** The autoclear bit is set: what is stored can be relied on. */
  readonly consistent: boolean;
}

/** The bitmap directory; undefined when the image has no bitmaps. */
export function readBitmapDirectory(s: State): BitmapDirectory | undefined {
  const ext = extensionOf(s.header, S.EXT_BITMAPS);
  if (ext === undefined) return undefined;
  if (ext.length !== 24) throw corrupt(`the bitmaps header extension has ${ext.length} bytes (24 are expected)`);
  const e = S.BitmapsExtension.at(ext);
  if (e.count === 0 || e.count > S.MAX_BITMAPS) throw corrupt(`${e.count} bitmaps (1 to ${S.MAX_BITMAPS})`);
  if (e.directorySize > S.MAX_BITMAP_DIRECTORY_BYTES) throw corrupt(`bitmap directory of ${e.directorySize} bytes is too large`);
  if (e.directoryOffset % s.clusterSize !== 0)
    throw corrupt(`bitmap directory at ${hex(e.directoryOffset)} is not aligned to clusters`);
  if (e.directoryOffset + e.directorySize > s.file.size)
    throw corrupt(`bitmap directory at ${hex(e.directoryOffset)} is past the end of the file (size ${hex(s.file.size)})`);
  const b = readAt(s.file, e.directoryOffset, e.directorySize);
  const entries: BitmapEntry[] = [];
  for (let at = 0; at < b.length; ) {
    if (entries.length >= e.count) throw corrupt(`the bitmap directory has more than the ${e.count} entries announced`);
    const v = S.BitmapStruct.at(b, at);
    const total = 24 + v.extraSize + v.nameSize;
    if (at + total > b.length) throw corrupt(`bitmap ${entries.length} leaves the bitmap directory`);
    if (v.nameSize === 0 || v.nameSize > 1023)
      throw corrupt(`bitmap ${entries.length} has a name of ${v.nameSize} bytes (1 to 1023)`);
    if (v.granularityBits < 9 || v.granularityBits > 31)
      throw corrupt(`bitmap ${entries.length} has granularity 2^${v.granularityBits} (2^9 to 2^31)`);
    entries.push({
      name: decodeName(b.subarray(at + 24 + v.extraSize, at + total)),
      tableOffset: v.tableOffset,
      tableSize: v.tableSize,
      flags: v.flags,
      type: v.type,
      granularityBits: v.granularityBits,
      extra: b.slice(at + 24, at + 24 + v.extraSize),
    });
    at += Math.ceil(total / 8) * 8;
  }
  if (entries.length !== e.count) throw corrupt(`the bitmap directory has ${entries.length} entries, ${e.count} were announced`);
  return {
    offset: e.directoryOffset,
    bytes: e.directorySize,
    entries,
    consistent: (s.header.autoclear & S.AUTOCLEAR_BITMAPS) !== 0n,
  };
}

/** Bytes of a bitmap over a disk of `size` bytes. */
export const bitmapBytes = (size: number, granularityBits: number): number =>
  Math.ceil(Math.ceil(size / 2 ** granularityBits) / 8);

/** The stored bits, least significant bit first. */
export function readBitmap(s: State, e: BitmapEntry, size: number): Uint8Array {
  const bytes = bitmapBytes(size, e.granularityBits);
  const clusters = Math.ceil(bytes / s.clusterSize);
  if (e.tableSize !== clusters)
    throw corrupt(`bitmap "${e.name}" has a table of ${e.tableSize} entries (${clusters} are needed)`);
  if (e.tableOffset % s.clusterSize !== 0) throw corrupt(`bitmap table at ${hex(e.tableOffset)} is not aligned to clusters`);
  const table = readTable(s.file, e.tableOffset, clusters * 8, `table of bitmap "${e.name}"`);
  const bits = new Uint8Array(bytes);
  for (let i = 0; i < clusters; i++) {
    const part = bits.subarray(i * s.clusterSize, Math.min(bytes, (i + 1) * s.clusterSize));
    const at = table.target(i);
    if (at !== 0) {
      if (at % s.clusterSize !== 0) throw corrupt(`data of bitmap "${e.name}" at ${hex(at)} is not aligned to clusters`);
      const present = Math.min(part.length, s.file.size - at);
      if (present <= 0) throw corrupt(`data of bitmap "${e.name}" at ${hex(at)} is past the end of the file`);
      s.file.read(part.subarray(0, present), at);
    } else if (table.lo(i) & 1) part.fill(255);
  }
  // Bits past the disk's end mean nothing and are kept clear.
  const used = Math.ceil(size / 2 ** e.granularityBits) % 8;
  if (used !== 0 && bytes > 0) bits[bytes - 1] = bits[bytes - 1]! & ((1 << used) - 1);
  return bits;
}
