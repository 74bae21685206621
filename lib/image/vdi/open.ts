import { type BlockSource, isWritable, readUpTo } from '../../block/source.js';
import { alignUp, equalBytes, guidText, isPowerOfTwo, isZero } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import type { Image, OpenContext } from '../format.js';
import { MappedImage, WritableMappedImage } from '../mapped.js';
import { VdiMapping } from './image.js';
import { HEADER_BYTES, Header, imageType, MAX_BLOCKS, SECTOR, SIGNATURE, VERSION_1_1 } from './structs.js';

export function openVdi(file: BlockSource, context: OpenContext): Image {
  const { label } = file;
  const head = readUpTo(file, 0, HEADER_BYTES);
  if (head.length < Header.size || Header.at(head).signature !== SIGNATURE)
    throw new GuestError('wrong-format', `${label}: no VDI signature at 0x40`);
  const h = Header.decode(head);
  if (h.version !== VERSION_1_1)
    throw unsupported(`${label}: VDI version ${h.version >>> 16}.${h.version & 0xffff} is not supported (1.1 is)`);
  if (h.imageType < imageType.dynamic || h.imageType > imageType.differencing)
    throw unsupported(`${label}: VDI image type ${h.imageType} is not supported (1 dynamic, 2 static and 4 differencing are)`);
  if (h.sectorSize !== SECTOR) throw unsupported(`${label}: VDI sector size ${h.sectorSize} is not supported (512 is)`);
  if (!isPowerOfTwo(h.blockSize) || h.blockSize < SECTOR || h.blockSize > 256 << 20)
    throw corrupt(`${label}: VDI block size ${h.blockSize} is not a power of two from 512 to 256 MiB`);
  if (h.blockExtra % SECTOR !== 0 || h.blockExtra > 1 << 20)
    throw corrupt(`${label}: ${h.blockExtra} bytes of extra data before each block`);
  if (h.blocksInImage > MAX_BLOCKS) throw corrupt(`${label}: ${h.blocksInImage} blocks in the map (at most ${MAX_BLOCKS})`);
  // Some versions of VirtualBox store sizes that are not whole sectors.
  const diskSize = alignUp(h.diskSize, SECTOR);
  if (diskSize > h.blocksInImage * h.blockSize)
    throw corrupt(`${label}: disk of ${diskSize} bytes, but the map has ${h.blocksInImage} blocks of ${h.blockSize}`);
  if (h.offsetMap < Header.size || h.offsetMap + h.blocksInImage * 4 > file.size)
    throw corrupt(
      `${label}: block map of ${h.blocksInImage} entries at ${hex(h.offsetMap)} is outside the file (size ${hex(file.size)})`,
      { offset: h.offsetMap },
    );
  if (h.offsetData < h.offsetMap + h.blocksInImage * 4)
    throw corrupt(`${label}: data at ${hex(h.offsetData)} is not behind the block map at ${hex(h.offsetMap)}`, {
      offset: h.offsetData,
    });
  const hasParent = !isZero(h.uuidParent);
  if (h.imageType === imageType.undo || (h.imageType === imageType.differencing && !hasParent))
    throw unsupported(`${label}: VDI image type ${h.imageType} without a parent UUID is not supported`);
  if (hasParent && context.writable)
    throw unsupported(`${label}: a differencing VDI can be read, not written (convert it first)`);
  const parent = hasParent && context.noBacking !== true ? openParent(label, h.uuidParent, context) : undefined;
  const mapping = new VdiMapping(
    file,
    {
      diskSize,
      blockSize: h.blockSize,
      blockExtra: h.blockExtra,
      offsetMap: h.offsetMap,
      offsetData: h.offsetData,
      blocksInImage: h.blocksInImage,
      blocksAllocated: h.blocksAllocated,
      type: h.imageType,
      uuid: h.uuidImage,
    },
    parent,
  );
  return context.writable && isWritable(file) ? new WritableMappedImage(mapping) : new MappedImage(mapping);
}

/** A VDI knows its parent by UUID only; snapshots are called by theirs, as VirtualBox names them: "{uuid}.vdi". */
function openParent(label: string, uuid: Uint8Array, context: OpenContext): BlockSource {
  const name = `{${guidText(uuid).toLowerCase()}}.vdi`;
  let parent: BlockSource;
  try {
    parent = context.openReference({ role: 'backing', name, format: 'vdi' });
  } catch (e) {
    if (!(e instanceof GuestError && e.code === 'not-found')) throw e;
    throw new GuestError(
      'unsupported',
      `${label}: a differencing VDI names its parent by UUID only: put that disk beside it as "${name}", or convert it with VirtualBox`,
      {},
      e,
    );
  }
  const mapping = parent instanceof MappedImage ? parent.mapping : undefined;
  if (!(mapping instanceof VdiMapping) || equalBytes(mapping.uuid, uuid)) return parent;
  parent.close();
  throw corrupt(`${label}: "${name}" has UUID ${guidText(mapping.uuid).toLowerCase()}: it is not the parent of this disk`);
}
