import type { ImageFormat } from '../format.js';
import { createOptions, createVdi } from './create.js';
import { openVdi } from './open.js';
import { SIGNATURE } from './structs.js';

/** VirtualBox disks. */
export const vdi: ImageFormat = {
  name: 'vdi',
  extensions: ['vdi'],
  probe: (head) => head.length >= 0x44 && new DataView(head.buffer, head.byteOffset).getUint32(0x40, true) === SIGNATURE,
  open: openVdi,
  create: createVdi,
  createOptions,
};
