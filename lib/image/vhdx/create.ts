import { randomBytes } from 'node:crypto';
import type { ResizableSource } from '../../block/source.js';
import { alignUp, isPowerOfTwo } from '../../core/bytes.js';
import { unsupported, usage } from '../../core/errors.js';
import type { CreateOptionInfo, CreateOptions } from '../format.js';
import { Settings } from '../settings.js';
import { batEntries, chunkRatioOf } from './image.js';
import {
  checksumOf,
  FILE_ID,
  guidBytes,
  HEAD,
  HEADER_BYTES,
  HEADERS,
  Header,
  item,
  METADATA_TABLE_BYTES,
  MetadataEntry,
  MetadataTable,
  MIB,
  metadataFlag,
  REGI,
  REGION_TABLE_BYTES,
  REGION_TABLES,
  RegionEntry,
  RegionTable,
  region,
  state,
} from './structs.js';

export const createOptions: readonly CreateOptionInfo[] = [
  { name: 'block_size', type: 'size', help: 'Block size, 1 MiB to 256 MiB; 0 chooses by the size of the disk' },
  { name: 'block_state_zero', type: 'on/off', help: 'Mark unwritten blocks as zero instead of not present (default on)' },
  { name: 'log_size', type: 'size', help: 'Log size, at least 1 MiB' },
  { name: 'size', type: 'size', help: 'Virtual disk size, at most 64 TiB' },
  { name: 'subformat', type: 'string', help: 'Kind of disk: dynamic (default) or fixed', values: ['dynamic', 'fixed'] },
];

const MAX_DISK = 64 * 2 ** 40;
const MAX_LOG = 0xfff00000;
const SECTOR_SIZE = 512;
const CHUNK = 1 << 17;

/** Small disks get small blocks: the sizes that qemu-img chooses. */
function defaultBlock(size: number): number {
  if (size > 32 * 2 ** 40) return 64 * MIB;
  if (size > 100 * 2 ** 30) return 32 * MIB;
  return size > 2 ** 30 ? 16 * MIB : 8 * MIB;
}

export function createVhdx(file: ResizableSource, options: CreateOptions): void {
  const settings = new Settings('vhdx', options, createOptions);
  if (options.backing !== undefined) throw unsupported('vhdx images with a backing file cannot be made');
  const diskSize = alignUp(options.size, SECTOR_SIZE);
  if (diskSize > MAX_DISK) throw usage(`vhdx: ${options.size} bytes is too large (at most 64 TiB)`);
  const fixed = settings.choice('subformat', 'dynamic') === 'fixed';
  const zero = settings.flag('block_state_zero', true);
  const blockSize = Math.max(MIB, settings.size('block_size', 0) || defaultBlock(diskSize));
  if (!isPowerOfTwo(blockSize) || blockSize > 256 * MIB)
    throw usage(`vhdx option block_size: ${blockSize} is not a power of two from 1 MiB to 256 MiB`);
  const logLength = alignUp(Math.max(MIB, settings.size('log_size', MIB)), MIB);
  if (logLength > MAX_LOG) throw usage(`vhdx option log_size: ${logLength} is too large (below 4 GiB)`);

  const parameters = { diskSize, blockSize, logicalSectorSize: SECTOR_SIZE, hasParent: false };
  const entries = batEntries(parameters);
  const bat = { offset: MIB + logLength, length: Math.max(MIB, alignUp(entries * 8, MIB)) };
  const metadata = { offset: bat.offset + bat.length, length: MIB };
  const payload = metadata.offset + metadata.length;
  const blocks = Math.ceil(diskSize / blockSize);

  file.resize(0);
  file.resize(payload + (fixed ? blocks * blockSize : 0));
  const id = new Uint8Array(8 + 512);
  id.set(Buffer.from(FILE_ID, 'latin1'));
  id.set(Buffer.from('guestwright', 'utf16le'), 8);
  file.write(id, 0);
  const header = {
    signature: HEAD,
    fileWriteGuid: randomBytes(16),
    dataWriteGuid: randomBytes(16),
    version: 1,
    logLength,
    logOffset: MIB,
  };
  for (const [i, at] of HEADERS.entries()) {
    const b = new Uint8Array(HEADER_BYTES);
    b.set(Header.encode({ ...header, sequenceNumber: i + 1 }));
    Header.at(b).checksum = checksumOf(b);
    file.write(b, at);
  }
  const regions = regionTable(bat, metadata);
  for (const at of REGION_TABLES) file.write(regions, at);
  file.write(metadataRegion(parameters, fixed), metadata.offset);
  if (fixed || zero)
    writeBat(file, bat.offset, { entries, ratio: chunkRatioOf(parameters), blockSize, payload: fixed ? payload : undefined });
}

function regionTable(bat: { offset: number; length: number }, metadata: { offset: number; length: number }): Uint8Array {
  const b = new Uint8Array(REGION_TABLE_BYTES);
  b.set(RegionTable.encode({ signature: REGI, entryCount: 2 }));
  const entry = (guid: string, r: { offset: number; length: number }) =>
    RegionEntry.encode({ guid: guidBytes(guid), fileOffset: r.offset, length: r.length, required: 1 });
  b.set(entry(region.bat, bat), RegionTable.size);
  b.set(entry(region.metadata, metadata), RegionTable.size + RegionEntry.size);
  RegionTable.at(b).checksum = checksumOf(b);
  return b;
}

function metadataRegion(p: { diskSize: number; blockSize: number; logicalSectorSize: number }, fixed: boolean): Uint8Array {
  const { disk, required } = metadataFlag;
  const items: readonly (readonly [string, number, Uint8Array])[] = [
    [item.fileParameters, required, words(p.blockSize, fixed ? 1 : 0)],
    [item.virtualDiskSize, disk | required, words(p.diskSize % 2 ** 32, Math.floor(p.diskSize / 2 ** 32))],
    [item.virtualDiskId, disk | required, randomBytes(16)],
    [item.logicalSectorSize, disk | required, words(p.logicalSectorSize)],
    [item.physicalSectorSize, disk | required, words(512)],
  ];
  const b = new Uint8Array(METADATA_TABLE_BYTES + 4096);
  b.set(MetadataTable.encode({ signature: Uint8Array.from(Buffer.from('metadata')), entryCount: items.length }));
  let at = METADATA_TABLE_BYTES;
  for (const [i, [id, flags, bytes]] of items.entries()) {
    b.set(
      MetadataEntry.encode({ id: guidBytes(id), offset: at, length: bytes.length, flags }),
      MetadataTable.size + i * MetadataEntry.size,
    );
    b.set(bytes, at);
    at += bytes.length;
  }
  return b;
}

function words(...values: readonly number[]): Uint8Array {
  const b = new Uint8Array(values.length * 4);
  const view = new DataView(b.buffer);
  for (const [i, v] of values.entries()) view.setUint32(i * 4, v >>> 0, true);
  return b;
}

/** All blocks as zero, or one after another from `payload`.  Entries of sector bitmaps stay "not present". */
function writeBat(
  file: ResizableSource,
  offset: number,
  p: { readonly entries: number; readonly ratio: number; readonly blockSize: number; readonly payload: number | undefined },
): void {
  let block = 0;
  for (let first = 0; first < p.entries; first += CHUNK) {
    const n = Math.min(CHUNK, p.entries - first);
    const b = new Uint8Array(n * 8);
    const view = new DataView(b.buffer);
    for (let i = 0; i < n; i++) {
      if ((first + i) % (p.ratio + 1) === p.ratio) continue;
      if (p.payload === undefined) view.setUint32(i * 8, state.zero, true);
      else {
        const mb = (p.payload + block * p.blockSize) / MIB;
        view.setUint32(i * 8, (mb % 4096) * MIB + state.fullyPresent, true);
        view.setUint32(i * 8 + 4, Math.floor(mb / 4096), true);
      }
      block++;
    }
    file.write(b, offset + first * 8);
  }
}
