import type { BlockSource } from '../../block/source.js';
import { unsupported, usage } from '../../core/errors.js';
import { parseSize } from '../../core/size.js';
import type { Image } from '../../image/format.js';
import { encryptionHeaderBytes, Qcow2Image } from '../../image/qcow2/index.js';
import { onOff } from './options.js';

export interface Measurement {
  /** Bytes of file that a conversion needs. */
  readonly required: number;
  readonly fullyAllocated: number;
  readonly bitmaps?: number;
}

const up = (n: number, unit: number) => Math.ceil(n / unit) * unit;

/** How large a new image becomes: of `source`, or empty of `size` bytes. */
export function measure(
  format: string,
  settings: Readonly<Record<string, string>>,
  source: { readonly image?: Image; readonly disk?: BlockSource; readonly size: number },
): Measurement {
  const size = up(source.size, 512);
  if (format === 'raw') return { required: size, fullyAllocated: size };
  if (format !== 'qcow2') throw unsupported(`the size of ${format} images cannot be measured (raw and qcow2 can)`);
  const cs = settings['cluster_size'] === undefined ? 65536 : parseSize(settings['cluster_size'], 'cluster_size');
  if (!Number.isInteger(Math.log2(cs)) || cs < 512 || cs > 2 << 20)
    throw usage(`cluster_size ${cs} is not a power of two from 512 to 2M`);
  const bits = Number(settings['refcount_bits'] ?? '16');
  if (![1, 2, 4, 8, 16, 32, 64].includes(bits)) throw usage(`refcount_bits ${bits} is not a power of two from 1 to 64`);
  const entry = onOff(settings['extended_l2'] ?? 'off', 'extended_l2') ? 16 : 8;
  const disk = up(size, cs);
  const luks = up(encryptionHeaderBytes(settings), cs);
  const all = luks + disk + tables(disk, cs, entry, bits);
  const preallocation = settings['preallocation'] ?? 'off';
  let data = 0;
  if (preallocation === 'falloc' || preallocation === 'full') data = disk;
  else if (source.image !== undefined || source.disk !== undefined) {
    if (settings['backing_file'] !== undefined) data = disk;
    else data = source.image !== undefined ? clustersWithData(source.image, cs) : clustersOfDisk(source.disk!, cs);
  }
  const version3 = !['0.10', 'v2'].includes(settings['compat'] ?? '1.1');
  return {
    required: all - disk + data,
    fullyAllocated: all,
    ...(version3 && source.image instanceof Qcow2Image && source.image.header.version >= 3
      ? { bitmaps: bitmapBytes(source.image, cs) }
      : {}),
  };
}

/** Header, L1 and L2 tables for all of the disk, and refcounts for everything including themselves. */
function tables(disk: number, cs: number, entry: number, bits: number): number {
  const l2 = up((disk / cs) * entry, cs);
  const l1 = up((l2 / cs) * 8, cs);
  const counted = (cs + l2 + l1 + disk) / cs;
  const perBlock = (cs * 8) / bits;
  let blocks = 0;
  let table = 0;
  for (;;) {
    const b = Math.ceil((counted + blocks + table) / perBlock);
    const t = Math.ceil((b * 8) / cs);
    if (b === blocks && t === table) break;
    blocks = b;
    table = t;
  }
  return cs + l2 + l1 + (blocks + table) * cs;
}

/** For what is not an image: a snapshot's disk. */
function clustersOfDisk(disk: BlockSource, cs: number): number {
  let bytes = 0;
  for (let at = 0; at < disk.size; ) {
    const run = disk.map(at, disk.size - at);
    let next = at + run.length;
    if (run.kind !== 'zero') {
      next = up(next, cs);
      bytes += (at % cs) + (next - at);
    }
    at = next;
  }
  return bytes;
}

function clustersWithData(image: Image, cs: number): number {
  let bytes = 0;
  for (let at = 0; at < image.size; ) {
    const e = image.extent(at, image.size - at);
    let next = at + e.length;
    if (!e.zero) {
      next = up(next, cs);
      bytes += (at % cs) + (next - at);
    }
    at = next;
  }
  return bytes;
}

/** Bits, tables and directory of all bitmaps, as if all bits were stored. */
function bitmapBytes(image: Qcow2Image, cs: number): number {
  let bytes = 0;
  let directory = 0;
  for (const b of image.bitmaps) {
    if (b.inUse) continue;
    const bits = up(Math.ceil(Math.ceil(image.size / b.granularity) / 8), cs);
    bytes += bits + up((bits / cs) * 8, cs);
    directory += up(24 + Buffer.byteLength(b.name), 8);
  }
  return bytes + up(directory, cs);
}
