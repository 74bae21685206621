import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import type { BlockSource, ResizableSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { unsupported, usage } from '../../core/errors.js';
import type { CreateContext, CreateOptionInfo, CreateOptions } from '../format.js';
import { isImage } from '../mapped.js';
import { Settings } from '../settings.js';
import { encodeDescriptor, NO_PARENT } from './descriptor.js';
import { flag, HostedHeader, KDMV, SECTOR } from './structs.js';

const SUBFORMATS = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'streamOptimized',
] as const;
const ADAPTERS = ['ide', 'buslogic', 'lsilogic', 'legacyESX'] as const;

export const createOptions: readonly CreateOptionInfo[] = [
  {
    name: 'adapter_type',
    type: 'string',
    help: 'Virtual adapter: ide (default), lsilogic, buslogic or legacyESX',
    values: ADAPTERS,
  },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: "Must be 'vmdk' if present", values: ['vmdk'] },
  { name: 'compat6', type: 'on/off', help: 'VMDK version 6 image' },
  { name: 'hwversion', type: 'string', help: 'VMDK hardware version' },
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'subformat',
    type: 'string',
    help: `Kind of VMDK: ${SUBFORMATS.join(', ')} (the first is the default)`,
    values: SUBFORMATS,
  },
  { name: 'toolsversion', type: 'string', help: 'VMware guest tools version' },
  { name: 'zeroed_grain', type: 'on/off', help: 'Mark zero grains in the grain tables instead of storing them' },
];

const GRAIN = 128;
const GTES = 512;
const DESCRIPTOR_SECTORS = 20;
const TWO_GIB = 2 ** 31;
const MAX_SIZE = 64 * 2 ** 40;
const CHUNK = 1 << 16;

export function createVmdk(file: ResizableSource, options: CreateOptions, context: CreateContext): void {
  const settings = new Settings('vmdk', options, createOptions);
  if (settings.text('backing_file') !== undefined && options.backing === undefined)
    throw usage('vmdk option backing_file: give the backing file as such, with its format');
  const subformat = settings.choice('subformat', 'monolithicSparse');
  const flat = subformat.endsWith('Flat');
  const split = subformat.startsWith('twoGb');
  const size = alignUp(options.size, SECTOR);
  if (size > MAX_SIZE) throw usage(`vmdk: ${options.size} bytes is too large (at most 64 TiB)`);
  const zeroedGrain = settings.flag('zeroed_grain');
  if (flat && zeroedGrain) throw usage('vmdk: zeroed_grain cannot be used with flat images');
  if (flat && options.backing !== undefined) throw unsupported('vmdk: flat images cannot have a backing file');
  const sparse = (target: ResizableSource, bytes: number) =>
    writeSparse(target, bytes, { zeroedGrain, compressed: subformat === 'streamOptimized' });

  const name = basename(context.path ?? file.label);
  const lines: string[] = [];
  const separate = split || flat;
  if (separate) {
    const dot = name.lastIndexOf('.');
    const [prefix, postfix] = dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot)];
    const step = split ? TWO_GIB : Math.max(size, 1);
    for (let at = 0, i = 1; at < size || i === 1; at += step, i++) {
      const n = Math.min(step, size - at);
      const extent = split ? `${prefix}-${flat ? 'f' : 's'}${String(i).padStart(3, '0')}${postfix}` : `${prefix}-flat${postfix}`;
      const target = context.createSibling(extent);
      target.resize(0);
      if (flat) target.resize(n);
      else sparse(target, n);
      lines.push(`RW ${n / SECTOR} ${flat ? 'FLAT' : 'SPARSE'} "${extent}"${flat ? ' 0' : ''}`);
    }
  } else lines.push(`RW ${size / SECTOR} SPARSE "${name}"`);

  const text = encodeDescriptor({
    cid: newCid(),
    parentCid: options.backing === undefined ? NO_PARENT : parentCid(options.backing, context),
    createType: subformat,
    parentHint: options.backing?.name,
    extents: lines,
    ...diskDatabase(settings, size),
  });
  file.resize(0);
  if (separate) {
    file.write(text, 0);
    return;
  }
  if (text.length > DESCRIPTOR_SECTORS * SECTOR)
    throw usage(
      `vmdk: the descriptor has ${text.length} bytes, ${DESCRIPTOR_SECTORS * SECTOR} is all there is room for (shorter names help)`,
    );
  sparse(file, size);
  file.write(text, SECTOR);
}

const newCid = () => randomBytes(4).readUInt32LE() & 0x7ffffffe;

/** What the descriptor's "disk data base" says about the virtual hardware. */
export function diskDatabase(settings: Settings, size: number) {
  const adapterType = settings.choice('adapter_type', 'ide');
  const compat6 = settings.flag('compat6');
  const hwversion = settings.text('hwversion');
  if (compat6 && hwversion !== undefined && hwversion !== 'undefined')
    throw usage('vmdk: compat6 cannot be used together with hwversion');
  const heads = adapterType === 'ide' ? 16 : 255;
  return {
    hwVersion: compat6 ? '6' : hwversion === undefined || hwversion === 'undefined' ? '4' : hwversion,
    cylinders: Math.floor(size / (63 * heads * SECTOR)),
    heads,
    adapterType,
    toolsVersion: settings.text('toolsversion') ?? '2147483647',
  };
}

function parentCid(backing: { name: string; format: string }, context: CreateContext): number {
  if (backing.format !== 'vmdk') throw unsupported(`vmdk: the backing file must be vmdk too, not ${backing.format}`);
  if (context.openBacking === undefined) throw unsupported('vmdk: a backing file cannot be opened here');
  const parent: BlockSource = context.openBacking();
  try {
    const cid = isImage(parent) && parent.format === 'vmdk' ? parent.describe().specific?.['cid'] : undefined;
    if (typeof cid !== 'number') throw unsupported(`vmdk: backing file "${backing.name}" is not a vmdk image`);
    return cid;
  } finally {
    parent.close();
  }
}

/** Header, room for a descriptor, both grain directories with all their grain tables, empty. */
function writeSparse(
  file: ResizableSource,
  size: number,
  kind: { readonly zeroedGrain: boolean; readonly compressed: boolean },
): void {
  const tables = Math.ceil(size / (GTES * GRAIN * SECTOR));
  const tableSectors = (GTES * 4) / SECTOR;
  const directorySectors = Math.ceil((tables * 4) / SECTOR);
  const rgdOffset = 1 + DESCRIPTOR_SECTORS;
  const gdOffset = rgdOffset + directorySectors + tables * tableSectors;
  const overHead = alignUp(gdOffset + directorySectors + tables * tableSectors, GRAIN);
  const header = new Uint8Array(SECTOR);
  header.set(
    HostedHeader.encode({
      magic: KDMV,
      version: kind.compressed ? 3 : kind.zeroedGrain ? 2 : 1,
      flags:
        flag.newlineTest |
        flag.redundantGd |
        (kind.compressed ? flag.compressed | flag.markers : 0) |
        (kind.zeroedGrain ? flag.zeroedGrain : 0),
      capacity: size / SECTOR,
      grainSize: GRAIN,
      descriptorOffset: 1,
      descriptorSize: DESCRIPTOR_SECTORS,
      numGTEsPerGT: GTES,
      rgdOffset,
      gdOffset: BigInt(gdOffset),
      overHead,
      newlineTest: Uint8Array.of(10, 32, 13, 10),
      compressAlgorithm: kind.compressed ? 1 : 0,
    }),
  );
  file.resize(0);
  file.resize(overHead * SECTOR);
  file.write(header, 0);
  for (const directory of [rgdOffset, gdOffset])
    for (let first = 0; first < tables; first += CHUNK) {
      const n = Math.min(CHUNK, tables - first);
      const b = new Uint8Array(n * 4);
      const view = new DataView(b.buffer);
      for (let i = 0; i < n; i++) view.setUint32(i * 4, directory + directorySectors + (first + i) * tableSectors, true);
      file.write(b, directory * SECTOR + first * 4);
    }
}
