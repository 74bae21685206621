import { randomBytes } from 'node:crypto';
import { type BlockSource, isWritable, readAt, readUpTo } from '../../block/source.js';
import { isPowerOfTwo } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import type { Image, OpenContext } from '../format.js';
import { MappedImage, WritableMappedImage, writable } from '../mapped.js';
import { type Descriptor, type ExtentLine, looksLikeDescriptor, MAX_DESCRIPTOR, parseDescriptor, withCid } from './descriptor.js';
import type { DiskExtent } from './extent.js';
import { FlatExtent, ZeroExtent } from './flat.js';
import { openParent, VmdkMapping } from './image.js';
import { SeSparseExtent } from './sesparse.js';
import { SparseExtent } from './sparse.js';
import {
  COWD,
  COWD_GTES,
  CowdHeader,
  flag,
  GD_AT_END,
  GrainMarker,
  HostedHeader,
  KDMV,
  marker,
  SECTOR,
  sectors,
} from './structs.js';

/** Table entries of one directory: 64 TB in the smallest tables we accept stays below. */
const MAX_DIRECTORY = 1 << 27;

export function openVmdk(file: BlockSource, context: OpenContext): Image {
  const head = readUpTo(file, 0, SECTOR);
  const magic = head.length >= 4 ? new DataView(head.buffer).getUint32(0, true) : 0;
  if (magic === KDMV) return openHosted(file, context);
  if (magic === COWD) {
    const extent = openCowd(file);
    return finish(file, undefined, [extent], undefined, context, []);
  }
  if (looksLikeDescriptor(readUpTo(file, 0, 2048))) return openText(file, context);
  throw new GuestError('wrong-format', `${file.label}: neither a VMDK header nor a VMDK descriptor`);
}

function openHosted(file: BlockSource, context: OpenContext): Image {
  const { extent, header } = openSparse(file, 'SPARSE', context);
  const start = sectors(header.descriptorOffset, 'descriptor offset', file.label);
  const length = sectors(header.descriptorSize, 'descriptor size', file.label);
  // An extent of a split disk has none: it is then shown alone, without a parent.
  if (start === 0 || length === 0) return finish(file, undefined, [extent], undefined, context, []);
  if (length > MAX_DESCRIPTOR)
    throw corrupt(`${file.label}: descriptor of ${length} bytes is too large (at most ${MAX_DESCRIPTOR})`);
  const raw = readAt(file, start, length);
  if (raw[0] === 0) return finish(file, undefined, [extent], undefined, context, []);
  const descriptor = parseDescriptor(raw, file.label);
  const parent = openParent(descriptor, file.label, context);
  const owned = parent === undefined ? [] : [parent];
  return finish(file, descriptor, [extent], parent, context, owned, () => updateCid(file, start, raw, length));
}

function openText(file: BlockSource, context: OpenContext): Image {
  if (file.size > MAX_DESCRIPTOR)
    throw corrupt(`${file.label}: descriptor of ${file.size} bytes is too large (at most ${MAX_DESCRIPTOR})`);
  const raw = readAt(file, 0, file.size);
  const descriptor = parseDescriptor(raw, file.label);
  refuseDevices(descriptor, file.label);
  const owned: BlockSource[] = [];
  try {
    const extents = descriptor.extents.map((line) => openExtent(line, file.label, context, owned));
    if (extents.length === 0) throw corrupt(`${file.label}: descriptor names no extents`);
    const parent = openParent(descriptor, file.label, context);
    if (parent !== undefined) owned.push(parent);
    return finish(file, descriptor, extents, parent, context, owned, () => updateCid(file, 0, raw, undefined));
  } catch (e) {
    for (const s of owned) s.close();
    throw e;
  }
}

const DEVICE_TYPES = /^(fullDevice|partitionedDevice|vmfsRaw|vmfsRawDeviceMap|vmfsPassthroughRawDeviceMap|custom)$/i;
function refuseDevices(descriptor: Descriptor, label: string): void {
  if (DEVICE_TYPES.test(descriptor.createType))
    throw unsupported(`${label}: createType "${descriptor.createType}" stands for a physical device, which is not supported`);
  for (const key of descriptor.values.keys())
    if (/^encryption\.|\.keySafe$/i.test(key)) throw unsupported(`${label}: encrypted VMDK disks are not supported`);
}

function openExtent(line: ExtentLine, label: string, context: OpenContext, owned: BlockSource[]): DiskExtent {
  const size = sectors(line.sectors, 'extent', label);
  if (line.type === 'ZERO') return new ZeroExtent(size);
  if (line.access === 'NOACCESS') throw unsupported(`${label}: extent "${line.name ?? line.type}" is marked NOACCESS`);
  if (!/^(FLAT|VMFS|SPARSE|VMFSSPARSE|SESPARSE)$/.test(line.type))
    throw unsupported(
      `${label}: extent type ${line.type} is not supported (FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE and SESPARSE are)`,
    );
  if (line.name === undefined || line.name === '') throw corrupt(`${label}: ${line.type} extent has no file name`);
  const file = context.openReference({
    role: 'extent',
    name: line.name,
    format: 'raw',
    writable: context.writable && line.access === 'RW',
  });
  owned.push(file);
  switch (line.type) {
    case 'FLAT':
    case 'VMFS':
      return new FlatExtent(line.type, file, sectors(line.offset, 'extent offset', label), size);
    case 'SPARSE':
      return sized(openSparse(file, 'SPARSE', context).extent, size);
    case 'VMFSSPARSE':
      return sized(openCowd(file), size);
    default:
      return sized(new SeSparseExtent(file), size);
  }
}

/** One that is shorter than the descriptor says would shift what follows; a longer one (whole grains) is cut. */
function sized<E extends DiskExtent & { size: number }>(extent: E, size: number): E {
  if (extent.size < size) throw corrupt(`${extent.file!.label}: extent has ${extent.size} bytes, the descriptor says ${size}`);
  extent.size = size;
  return extent;
}

function openSparse(file: BlockSource, format: string, context: OpenContext) {
  const { label } = file;
  let h = HostedHeader.decode(readAt(file, 0, SECTOR));
  if (h.magic !== KDMV) throw corrupt(`${label}: sparse extent magic is ${hex(h.magic)}, expected ${hex(KDMV)}`);
  if (h.gdOffset === GD_AT_END) {
    const first = h;
    h = readFooter(file);
    if (h.capacity !== first.capacity || h.grainSize !== first.grainSize || h.numGTEsPerGT !== first.numGTEsPerGT)
      throw corrupt(`${label}: header and footer describe different disks`);
    h.descriptorOffset = first.descriptorOffset;
    h.descriptorSize = first.descriptorSize;
  }
  if (h.version < 1 || h.version > 3) throw unsupported(`${label}: VMDK version ${h.version} is not supported (1 to 3 are)`);
  const compressed = (h.flags & flag.compressed) !== 0;
  if (h.version === 3 && !compressed && context.writable)
    throw unsupported(`${label}: VMDK version 3 (changed block tracking) can be read, not written`);
  if (compressed && h.compressAlgorithm !== 1)
    throw unsupported(`${label}: compression algorithm ${h.compressAlgorithm} is not supported (1, deflate, is)`);
  if (
    (h.flags & flag.newlineTest) !== 0 &&
    !(h.newlineTest[0] === 10 && h.newlineTest[1] === 32 && h.newlineTest[2] === 13 && h.newlineTest[3] === 10)
  )
    throw corrupt(`${label}: line ends in the header were converted: the file was copied in text mode and is damaged`);
  if (!isPowerOfTwo(h.grainSize) || h.grainSize > 1 << 15)
    throw corrupt(`${label}: grain size of ${h.grainSize} sectors is not a power of two up to 32768`);
  if (h.numGTEsPerGT < 1 || h.numGTEsPerGT > 65536)
    throw corrupt(`${label}: ${h.numGTEsPerGT} entries in a grain table (1 to 65536)`);
  const size = sectors(h.capacity, 'capacity', label);
  const grainBytes = h.grainSize * SECTOR;
  const directoryEntries = Math.ceil(size / (grainBytes * h.numGTEsPerGT));
  if (directoryEntries > MAX_DIRECTORY)
    throw corrupt(`${label}: capacity of ${hex(size)} bytes needs ${directoryEntries} grain tables (at most ${MAX_DIRECTORY})`);
  if (h.gdOffset > BigInt(Number.MAX_SAFE_INTEGER))
    throw corrupt(`${label}: grain directory offset ${hex(h.gdOffset)} is too large`);
  const extent = new SparseExtent(file, {
    format,
    size,
    grainBytes,
    entriesPerTable: h.numGTEsPerGT,
    directory: sectors(Number(h.gdOffset), 'grain directory offset', label),
    redundant: (h.flags & flag.redundantGd) !== 0 ? sectors(h.rgdOffset, 'redundant grain directory offset', label) : undefined,
    directoryEntries,
    zeroedGrain: (h.flags & flag.zeroedGrain) !== 0,
    compressed,
    markers: (h.flags & flag.markers) !== 0,
    overhead: Math.min(sectors(h.overHead, 'overhead', label), file.size),
  });
  return { extent, header: h };
}

/** A stream's last 1536 bytes: footer marker, footer (a header), end-of-stream marker. */
function readFooter(file: BlockSource) {
  const { label } = file;
  const at = file.size - 3 * SECTOR;
  if (at < SECTOR) throw corrupt(`${label}: the footer is missing (file size ${hex(file.size)})`);
  const b = readAt(file, at, 3 * SECTOR);
  const mark = GrainMarker.at(b);
  const h = HostedHeader.decode(b, SECTOR);
  if (mark.length !== 0 || mark.type !== marker.footer || h.magic !== KDMV || h.gdOffset === GD_AT_END)
    throw corrupt(`${label}: no footer at ${hex(at)}: the end of the stream is missing`, { offset: at });
  return { ...h, newlineTest: h.newlineTest.slice() };
}

function openCowd(file: BlockSource): SparseExtent {
  const { label } = file;
  const h = CowdHeader.decode(readAt(file, 0, SECTOR));
  if (h.magic !== COWD) throw corrupt(`${label}: COWD magic is ${hex(h.magic)}, expected ${hex(COWD)}`);
  if (h.version !== 1) throw unsupported(`${label}: COWD version ${h.version} is not supported (1 is)`);
  if (h.grainSize < 1 || h.grainSize > 1 << 15) throw corrupt(`${label}: COWD grain size of ${h.grainSize} sectors (1 to 32768)`);
  const size = h.numSectors * SECTOR;
  const grainBytes = h.grainSize * SECTOR;
  const need = Math.ceil(size / (grainBytes * COWD_GTES));
  if (need > h.numGDEntries)
    throw corrupt(`${label}: COWD grain directory has ${h.numGDEntries} entries, the capacity needs ${need}`);
  return new SparseExtent(file, {
    format: 'VMFSSPARSE',
    size,
    grainBytes,
    entriesPerTable: COWD_GTES,
    directory: h.gdOffset * SECTOR,
    redundant: undefined,
    directoryEntries: need,
    zeroedGrain: false,
    compressed: false,
    markers: false,
    overhead: h.gdOffset * SECTOR + need * 4,
    freeSector: (sector) => {
      const b = new Uint8Array(4);
      new DataView(b.buffer).setUint32(0, sector, true);
      writable(file).write(b, CowdHeader.offset.freeSector);
    },
  });
}

/** A new content id, so that children made over the old contents can tell. */
function updateCid(file: BlockSource, at: number, raw: Uint8Array, room: number | undefined): void {
  const next = withCid(raw, randomBytes(4).readUInt32LE() & 0xfffffffe);
  if (room !== undefined && next.length > room) throw corrupt(`${file.label}: the descriptor has no room for a longer CID`);
  writable(file).write(next, at);
}

function finish(
  file: BlockSource,
  descriptor: Descriptor | undefined,
  extents: readonly DiskExtent[],
  parent: BlockSource | undefined,
  context: OpenContext,
  owned: readonly BlockSource[],
  firstWrite?: () => void,
): Image {
  const mapping = new VmdkMapping(file, descriptor, extents, parent, { path: context.path, owned, firstWrite });
  return context.writable && isWritable(file) ? new WritableMappedImage(mapping) : new MappedImage(mapping);
}
