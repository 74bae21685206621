import { randomBytes } from 'node:crypto';
import type { ResizableSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { unsupported, usage } from '../../core/errors.js';
import type { CreateOptionInfo, CreateOptions } from '../format.js';
import { Settings } from '../settings.js';
import { MAX_SECTORS, roundedGeometry } from './geometry.js';
import { COOKIE, checksumOf, DynamicHeader, diskType, EPOCH, FOOTER_BYTES, Footer, SECTOR, SPARSE_COOKIE } from './structs.js';

const BLOCK = 2 << 20;
const NONE = 0xffffffffffffffffn;

export const createOptions: readonly CreateOptionInfo[] = [
  { name: 'force_size', type: 'on/off', help: 'Keep the size asked for instead of rounding it up to whole cylinders' },
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'subformat', type: 'string', help: 'Kind of disk: dynamic (default) or fixed', values: ['dynamic', 'fixed'] },
];

const ascii = (s: string) => Uint8Array.from(s, (c) => c.charCodeAt(0));

export function createVpc(file: ResizableSource, options: CreateOptions): void {
  const settings = new Settings('vpc', options, createOptions);
  if (options.backing !== undefined) throw unsupported('vpc images with a backing file cannot be made');
  const force = settings.flag('force_size');
  const fixed = settings.choice('subformat', 'dynamic') === 'fixed';
  const { geometry, sectors } = force
    ? { geometry: { cylinders: 65535, heads: 16, sectorsPerTrack: 255 }, sectors: Math.ceil(options.size / SECTOR) }
    : roundedGeometry(options.size);
  if (sectors > MAX_SECTORS) throw usage(`vpc: ${options.size} bytes is too large (at most 2040 GiB)`);
  const size = sectors * SECTOR;
  const footer = Footer.encode({
    cookie: ascii(COOKIE),
    features: 2,
    version: 0x10000,
    dataOffset: fixed ? NONE : BigInt(FOOTER_BYTES),
    timestamp: Math.max(0, Math.floor(Date.now() / 1000) - EPOCH),
    // The names by which readers know whether the size or the geometry counts: see visibleSize.
    creatorApplication: ascii(force ? 'qem2' : 'qemu'),
    creatorVersion: 0x00050003,
    creatorOs: ascii('Wi2k'),
    originalSize: size,
    currentSize: size,
    ...geometry,
    diskType: fixed ? diskType.fixed : diskType.dynamic,
    uniqueId: randomBytes(16),
  });
  Footer.at(footer).checksum = checksumOf(footer, Footer.offset.checksum);
  file.resize(0);
  if (fixed) {
    file.resize(size);
    file.write(footer, size);
    return;
  }
  const entries = Math.ceil(sectors / (BLOCK / SECTOR));
  const header = DynamicHeader.encode({
    cookie: ascii(SPARSE_COOKIE),
    dataOffset: NONE,
    tableOffset: 3 * SECTOR,
    version: 0x10000,
    maxTableEntries: entries,
    blockSize: BLOCK,
  });
  DynamicHeader.at(header).checksum = checksumOf(header, DynamicHeader.offset.checksum);
  // At most 2040 GiB in blocks of 2 MiB: the table has 4 MiB.
  const table = new Uint8Array(alignUp(entries * 4, SECTOR)).fill(0xff);
  file.write(footer, 0);
  file.write(header, FOOTER_BYTES);
  file.write(table, 3 * SECTOR);
  file.write(footer, 3 * SECTOR + table.length);
}
