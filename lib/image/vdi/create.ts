import { randomBytes } from 'node:crypto';
import type { ResizableSource } from '../../block/source.js';
import { alignUp } from '../../core/bytes.js';
import { unsupported, usage } from '../../core/errors.js';
import type { CreateOptionInfo, CreateOptions } from '../format.js';
import { Settings } from '../settings.js';
import { BLOCK, HEADER_BYTES, Header, imageType, MAX_BLOCKS, SECTOR, SIGNATURE, VERSION_1_1 } from './structs.js';

export const createOptions: readonly CreateOptionInfo[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'static', type: 'on/off', help: 'Make a static (preallocated) image' },
];

const CHUNK = 1 << 18;

export function createVdi(file: ResizableSource, options: CreateOptions): void {
  const settings = new Settings('vdi', options, createOptions);
  if (options.backing !== undefined) throw unsupported('vdi images with a backing file cannot be made');
  const isStatic = settings.flag('static');
  const diskSize = alignUp(options.size, SECTOR);
  const blocks = Math.ceil(diskSize / BLOCK);
  if (blocks > MAX_BLOCKS) throw usage(`vdi: ${options.size} bytes is too large (at most ${MAX_BLOCKS} MiB)`);
  const offsetData = HEADER_BYTES + alignUp(blocks * 4, SECTOR);
  const header = new Uint8Array(HEADER_BYTES);
  header.set(
    Header.encode({
      text: Uint8Array.from('<<< guestwright VirtualBox Disk Image >>>\n', (c) => c.charCodeAt(0)),
      signature: SIGNATURE,
      version: VERSION_1_1,
      headerSize: 0x180,
      imageType: isStatic ? imageType.static : imageType.dynamic,
      offsetMap: HEADER_BYTES,
      offsetData,
      sectorSize: SECTOR,
      diskSize,
      blockSize: BLOCK,
      blocksInImage: blocks,
      blocksAllocated: isStatic ? blocks : 0,
      uuidImage: uuid(),
      uuidLastSnap: uuid(),
    }),
  );
  file.resize(0);
  file.write(header, 0);
  for (let first = 0; first < blocks; first += CHUNK) {
    const n = Math.min(CHUNK, blocks - first);
    const b = new Uint8Array(n * 4).fill(0xff);
    const view = new DataView(b.buffer);
    if (isStatic) for (let i = 0; i < n; i++) view.setUint32(i * 4, first + i, true);
    file.write(b, HEADER_BYTES + first * 4);
  }
  file.resize(offsetData + (isStatic ? blocks * BLOCK : 0));
}

/** A random (version 4) UUID in Microsoft's byte order. */
function uuid(): Uint8Array {
  const b = randomBytes(16);
  b[7] = (b[7]! & 0x0f) | 0x40;
  b[8] = (b[8]! & 0x3f) | 0x80;
  return b;
}
