import { type BlockSource, isWritable, readAt, readUpTo } from '../../block/source.js';
import { isPowerOfTwo } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { latin1 } from '../../core/text.js';
import type { Image, OpenContext } from '../format.js';
import { MappedImage, WritableMappedImage } from '../mapped.js';
import { visibleSize } from './geometry.js';
import { DynamicMapping, FixedMapping } from './image.js';
import { openParent, parentNames } from './parent.js';
import { COOKIE, checksumOf, DynamicHeader, diskType, FOOTER_BYTES, Footer, SECTOR, SPARSE_COOKIE } from './structs.js';

const MAX_BLOCK = 256 << 20;

export function openVpc(file: BlockSource, context: OpenContext): Image {
  const { bytes, length } = readFooter(file);
  const f = Footer.decode(bytes);
  if (f.version >>> 16 !== 1) throw unsupported(`${file.label}: VHD version ${hex(f.version)} is not supported (0x10000 is)`);
  const size = visibleSize(
    latin1(f.creatorApplication),
    { cylinders: f.cylinders, heads: f.heads, sectorsPerTrack: f.sectorsPerTrack },
    f.currentSize,
  );
  const write = context.writable && isWritable(file);
  if (f.diskType === diskType.fixed) {
    if (size > file.size - length)
      throw corrupt(`${file.label}: fixed disk of ${size} bytes in a file of ${file.size} (the footer takes ${length})`);
    const mapping = new FixedMapping(file, size, f.uniqueId);
    return write ? new WritableMappedImage(mapping) : new MappedImage(mapping);
  }
  if (f.diskType !== diskType.dynamic && f.diskType !== diskType.differencing)
    throw unsupported(`${file.label}: VHD disk type ${f.diskType} is not supported (2 fixed, 3 dynamic and 4 differencing are)`);
  const differencing = f.diskType === diskType.differencing;
  if (differencing && context.writable)
    throw unsupported(`${file.label}: a differencing VHD can be read, not written (convert it first)`);
  if (f.dataOffset > BigInt(Number.MAX_SAFE_INTEGER))
    throw corrupt(`${file.label}: dynamic header offset ${hex(f.dataOffset)} is too large`);
  const header = readAt(file, Number(f.dataOffset), DynamicHeader.size);
  const h = DynamicHeader.at(header);
  if (latin1(h.cookie) !== SPARSE_COOKIE)
    throw corrupt(`${file.label}: no "${SPARSE_COOKIE}" header at ${hex(f.dataOffset)}`, { offset: Number(f.dataOffset) });
  const sum = checksumOf(header, DynamicHeader.offset.checksum);
  if (h.checksum !== sum) throw corrupt(`${file.label}: dynamic header checksum is ${hex(h.checksum)}, expected ${hex(sum)}`);
  const { blockSize, tableOffset, maxTableEntries } = h;
  if (!isPowerOfTwo(blockSize) || blockSize < SECTOR || blockSize > MAX_BLOCK)
    throw corrupt(`${file.label}: block size ${blockSize} is not a power of two from 512 to ${MAX_BLOCK}`);
  if (maxTableEntries * blockSize < size)
    throw corrupt(`${file.label}: ${maxTableEntries} table entries of ${blockSize} bytes are too few for ${size} bytes`);
  if (tableOffset + maxTableEntries * 4 > file.size)
    throw corrupt(
      `${file.label}: block allocation table of ${maxTableEntries} entries at ${hex(tableOffset)} is past the end of the file (size ${hex(file.size)})`,
      { offset: tableOffset },
    );
  const names = differencing ? parentNames(file, h) : [];
  const parent =
    differencing && context.noBacking !== true ? openParent(file, names, h.parentUniqueId, context, uniqueIdOf) : undefined;
  const mapping = new DynamicMapping(
    file,
    {
      size,
      blockSize,
      tableOffset,
      tableEntries: maxTableEntries,
      differencing,
      uniqueId: f.uniqueId,
      footer: bytes,
      parentName: names[0],
    },
    parent,
  );
  return write ? new WritableMappedImage(mapping) : new MappedImage(mapping);
}

function uniqueIdOf(parent: BlockSource): Uint8Array | undefined {
  const mapping = parent instanceof MappedImage ? parent.mapping : undefined;
  return mapping instanceof FixedMapping || mapping instanceof DynamicMapping ? mapping.uniqueId : undefined;
}

/**
 * The footer: of dynamic disks the copy at the start or the one at the end, whichever is whole; of fixed disks only the
 * one at the end, which old Virtual PC versions wrote with 511 bytes.
 */
function readFooter(file: BlockSource): { bytes: Uint8Array; length: number } {
  const wrong: string[] = [];
  for (const [at, length] of [
    [0, FOOTER_BYTES],
    [file.size - FOOTER_BYTES, FOOTER_BYTES],
    [file.size - FOOTER_BYTES + 1, FOOTER_BYTES - 1],
  ] as const) {
    if (at < 0) continue;
    const bytes = new Uint8Array(FOOTER_BYTES);
    bytes.set(readUpTo(file, at, length));
    const f = Footer.at(bytes);
    if (latin1(f.cookie) !== COOKIE) continue;
    const sum = checksumOf(bytes, Footer.offset.checksum);
    // A fixed disk may itself begin with a VHD: its first sector is guest data, not its footer.
    if (f.checksum === sum && (at !== 0 || file.size === FOOTER_BYTES || f.diskType !== diskType.fixed)) return { bytes, length };
    wrong.push(`checksum at ${hex(at)} is ${hex(f.checksum)}, expected ${hex(sum)}`);
  }
  if (wrong.length > 0) throw corrupt(`${file.label}: no usable VHD footer (${wrong.join('; ')})`);
  throw new GuestError('wrong-format', `${file.label}: no VHD footer at the start or the end`);
}
