import type { ImageFormat } from '../format.js';
import { createOptions, createQcow2 } from './create.js';
import { Qcow2Image } from './image.js';
import { MAGIC } from './structs.js';
import { WritableQcow2Image } from './writable.js';

export { encryptionHeaderBytes } from './create.js';
export { type BitmapInfo, Qcow2Image } from './image.js';
export { WritableQcow2Image } from './writable.js';

export const qcow2: ImageFormat = {
  name: 'qcow2',
  extensions: ['.qcow2', '.qcow', '.img'],
  probe(head) {
    if (head.length < 8) return false;
    const v = new DataView(head.buffer, head.byteOffset, head.byteLength);
    return v.getUint32(0) === MAGIC && v.getUint32(4) >= 2;
  },
  open: (file, context) => (context.writable ? new WritableQcow2Image(file, context) : new Qcow2Image(file, context)),
  create: createQcow2,
  createOptions,
};
