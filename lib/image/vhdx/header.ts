import { type BlockSource, readUpTo, type WritableSource } from '../../block/source.js';
import { corrupt, hex, unsupported } from '../../core/errors.js';
import {
  checksumOf,
  guidText,
  HEAD,
  HEADER_BYTES,
  HEADERS,
  Header,
  MAX_TABLE_ENTRIES,
  MIB,
  REGI,
  REGION_TABLE_BYTES,
  REGION_TABLES,
  RegionEntry,
  RegionTable,
  region,
} from './structs.js';

export interface Headers {
  readonly fields: ReturnType<typeof Header.decode>;
  /** Which of the two places holds it; the next one is written to the other. */
  readonly slot: 0 | 1;
}

/** The current header: whole, and with the higher sequence number. */
export function readHeaders(file: BlockSource): Headers {
  const wrong: string[] = [];
  const found: Headers[] = [];
  for (const slot of [0, 1] as const) {
    const at = HEADERS[slot];
    const b = readUpTo(file, at, HEADER_BYTES);
    if (b.length < HEADER_BYTES) {
      wrong.push(`header ${slot + 1} is past the end of the file`);
      continue;
    }
    const h = Header.at(b);
    const sum = checksumOf(b);
    if (h.signature !== HEAD) wrong.push(`header ${slot + 1} has no "head" signature`);
    else if (h.checksum !== sum) wrong.push(`header ${slot + 1} has CRC ${hex(h.checksum)}, expected ${hex(sum)}`);
    else if (h.version !== 1) throw unsupported(`${file.label}: VHDX version ${h.version} is not supported (1 is)`);
    else found.push({ fields: Header.decode(b), slot });
  }
  const [a, b] = found;
  if (a === undefined) throw corrupt(`${file.label}: no valid VHDX header (${wrong.join('; ')})`);
  if (b === undefined) return a;
  return b.fields.sequenceNumber > a.fields.sequenceNumber ? b : a;
}

/** Writes the header with the next sequence number to the place that is not current, then makes it current. */
export function writeHeader(file: WritableSource, current: Headers, change: Partial<Headers['fields']>): Headers {
  const slot = current.slot === 0 ? 1 : 0;
  const fields = { ...current.fields, ...change, sequenceNumber: current.fields.sequenceNumber + 1 };
  const b = new Uint8Array(HEADER_BYTES);
  b.set(Header.encode(fields));
  Header.at(b).checksum = checksumOf(b);
  file.write(b, HEADERS[slot]);
  file.flush();
  return { fields, slot };
}

export interface Region {
  readonly offset: number;
  readonly length: number;
}
export interface Regions {
  readonly bat: Region;
  readonly metadata: Region;
}

export function readRegions(file: BlockSource): Regions {
  const wrong: string[] = [];
  for (const [i, at] of REGION_TABLES.entries()) {
    const b = readUpTo(file, at, REGION_TABLE_BYTES);
    if (b.length < REGION_TABLE_BYTES) {
      wrong.push(`table ${i + 1} is past the end of the file`);
      continue;
    }
    const t = RegionTable.at(b);
    const sum = checksumOf(b);
    if (t.signature !== REGI) wrong.push(`table ${i + 1} has no "regi" signature`);
    else if (t.checksum !== sum) wrong.push(`table ${i + 1} has CRC ${hex(t.checksum)}, expected ${hex(sum)}`);
    else return parseRegions(file, b, t.entryCount);
  }
  throw corrupt(`${file.label}: no valid VHDX region table (${wrong.join('; ')})`);
}

function parseRegions(file: BlockSource, b: Uint8Array, count: number): Regions {
  if (count > MAX_TABLE_ENTRIES) throw corrupt(`${file.label}: region table has ${count} entries (at most ${MAX_TABLE_ENTRIES})`);
  let bat: Region | undefined;
  let metadata: Region | undefined;
  for (let i = 0; i < count; i++) {
    const e = RegionEntry.at(b, RegionTable.size + i * RegionEntry.size);
    const guid = guidText(e.guid);
    const here = { offset: e.fileOffset, length: e.length };
    if (here.offset < MIB || here.offset % MIB !== 0 || here.length % MIB !== 0 || here.length === 0)
      throw corrupt(`${file.label}: region ${guid} of ${hex(here.length)} bytes at ${hex(here.offset)} is not in whole MiB`);
    if (guid === region.bat && bat === undefined) bat = here;
    else if (guid === region.metadata && metadata === undefined) metadata = here;
    else if (guid === region.bat || guid === region.metadata) throw corrupt(`${file.label}: region ${guid} is listed twice`);
    else if ((e.required & 1) !== 0) throw unsupported(`${file.label}: required VHDX region ${guid} is not known`);
  }
  if (bat === undefined || metadata === undefined)
    throw corrupt(`${file.label}: region table has no ${bat === undefined ? 'BAT' : 'metadata'} region`);
  if (bat.offset < metadata.offset + metadata.length && metadata.offset < bat.offset + bat.length)
    throw corrupt(`${file.label}: BAT and metadata regions overlap`);
  return { bat, metadata };
}
