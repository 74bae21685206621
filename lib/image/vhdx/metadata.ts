import { type BlockSource, readAt } from '../../block/source.js';
import { isPowerOfTwo } from '../../core/bytes.js';
import { corrupt, unsupported } from '../../core/errors.js';
import { latin1 } from '../../core/text.js';
import type { Region } from './header.js';
import {
  guidText,
  item,
  LocatorEntry,
  MAX_TABLE_ENTRIES,
  METADATA_TABLE_BYTES,
  MetadataEntry,
  MetadataTable,
  MIB,
  metadataFlag,
  ParentLocator,
  VHDX_LOCATOR,
} from './structs.js';

const MAX_DISK = 64 * 2 ** 40;
const MAX_LOCATOR = MIB;
const utf16le = new TextDecoder('utf-16le');

export interface Metadata {
  readonly blockSize: number;
  readonly leaveBlocksAllocated: boolean;
  readonly hasParent: boolean;
  readonly diskSize: number;
  readonly diskId: string;
  readonly logicalSectorSize: number;
  readonly physicalSectorSize: number;
  /** The parent locator's keys. */
  readonly parent: ReadonlyMap<string, string>;
}

export function readMetadata(file: BlockSource, region: Region): Metadata {
  const { label } = file;
  const table = readAt(file, region.offset, METADATA_TABLE_BYTES);
  const t = MetadataTable.at(table);
  if (latin1(t.signature) !== 'metadata') throw corrupt(`${label}: metadata table has no "metadata" signature`);
  if (t.entryCount > MAX_TABLE_ENTRIES)
    throw corrupt(`${label}: metadata table has ${t.entryCount} entries (at most ${MAX_TABLE_ENTRIES})`);
  const known = new Set<string>(Object.values(item));
  const items = new Map<string, { offset: number; length: number }>();
  for (let i = 0; i < t.entryCount; i++) {
    const e = MetadataEntry.at(table, MetadataTable.size + i * MetadataEntry.size);
    const id = guidText(e.id);
    const user = (e.flags & metadataFlag.user) !== 0;
    if (user || !known.has(id)) {
      if ((e.flags & metadataFlag.required) !== 0) throw unsupported(`${label}: required VHDX metadata item ${id} is not known`);
      continue;
    }
    if (items.has(id)) throw corrupt(`${label}: metadata item ${id} is listed twice`);
    if (e.offset < METADATA_TABLE_BYTES || e.offset + e.length > region.length)
      throw corrupt(
        `${label}: metadata item ${id} of ${e.length} bytes at ${e.offset} is outside its region (size ${region.length})`,
      );
    items.set(id, { offset: region.offset + e.offset, length: e.length });
  }
  const view = (id: string, name: string, length: number): DataView => {
    const it = items.get(id);
    if (it === undefined) throw corrupt(`${label}: metadata item "${name}" is missing`);
    if (it.length < length) throw corrupt(`${label}: metadata item "${name}" has ${it.length} bytes, expected ${length}`);
    const b = readAt(file, it.offset, length);
    return new DataView(b.buffer);
  };
  const parameters = view(item.fileParameters, 'file parameters', 8);
  const blockSize = parameters.getUint32(0, true);
  const flags = parameters.getUint32(4, true);
  if (!isPowerOfTwo(blockSize) || blockSize < MIB || blockSize > 256 * MIB)
    throw corrupt(`${label}: block size ${blockSize} is not a power of two from 1 MiB to 256 MiB`);
  const logicalSectorSize = view(item.logicalSectorSize, 'logical sector size', 4).getUint32(0, true);
  const physicalSectorSize = view(item.physicalSectorSize, 'physical sector size', 4).getUint32(0, true);
  for (const [name, n] of [
    ['logical', logicalSectorSize],
    ['physical', physicalSectorSize],
  ] as const)
    if (n !== 512 && n !== 4096) throw corrupt(`${label}: ${name} sector size is ${n} (512 or 4096)`);
  const size = view(item.virtualDiskSize, 'virtual disk size', 8).getBigUint64(0, true);
  if (size > BigInt(MAX_DISK)) throw corrupt(`${label}: virtual size ${size} is above 64 TiB`);
  const hasParent = (flags & 2) !== 0;
  const locator = items.get(item.parentLocator);
  if (hasParent && locator === undefined) throw corrupt(`${label}: a differencing disk without a parent locator`);
  const id = view(item.virtualDiskId, 'virtual disk id', 16);
  return {
    blockSize,
    leaveBlocksAllocated: (flags & 1) !== 0,
    hasParent,
    diskSize: Number(size),
    diskId: guidText(new Uint8Array(id.buffer)),
    logicalSectorSize,
    physicalSectorSize,
    parent: hasParent ? readLocator(file, locator!) : new Map(),
  };
}

function readLocator(file: BlockSource, at: { offset: number; length: number }): ReadonlyMap<string, string> {
  const { label } = file;
  if (at.length > MAX_LOCATOR) throw corrupt(`${label}: parent locator has ${at.length} bytes (at most ${MAX_LOCATOR})`);
  const b = readAt(file, at.offset, at.length);
  const head = ParentLocator.at(b);
  const type = guidText(head.type);
  if (type !== VHDX_LOCATOR) throw unsupported(`${label}: parent locator type ${type} is not known`);
  const text = (offset: number, length: number): string => {
    if (offset + length > b.length)
      throw corrupt(`${label}: parent locator text of ${length} bytes at ${offset} is outside (size ${b.length})`);
    return utf16le.decode(b.subarray(offset, offset + length));
  };
  const pairs = new Map<string, string>();
  for (let i = 0; i < head.keyValueCount; i++) {
    const e = LocatorEntry.at(b, ParentLocator.size + i * LocatorEntry.size);
    const key = text(e.keyOffset, e.keyLength);
    if (pairs.has(key)) throw corrupt(`${label}: parent locator key "${key}" is there twice`);
    pairs.set(key, text(e.valueOffset, e.valueLength));
  }
  return pairs;
}
