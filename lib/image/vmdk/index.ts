import type { BlockSource } from '../../block/source.js';
import type { ImageFormat } from '../format.js';
import { createOptions, createVmdk } from './create.js';
import { looksLikeDescriptor } from './descriptor.js';
import { openVmdk } from './open.js';
import { COWD, KDMV } from './structs.js';

export { StreamOptimizedWriter, type StreamOptions } from './stream.js';

/** VMware disks: monolithic, split, flat, stream-optimized, ESX snapshots. */
export const vmdk: ImageFormat = {
  name: 'vmdk',
  extensions: ['vmdk'],
  probe: (head: Uint8Array, _file: BlockSource) => {
    if (head.length < 4) return false;
    const magic = new DataView(head.buffer, head.byteOffset).getUint32(0, true);
    return magic === KDMV || magic === COWD || looksLikeDescriptor(head);
  },
  open: openVmdk,
  create: createVmdk,
  createOptions,
};
