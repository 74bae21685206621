import { latin1 } from '../../core/text.js';
import type { ImageFormat } from '../format.js';
import { createOptions, createVhdx } from './create.js';
import { openVhdx } from './open.js';
import { FILE_ID } from './structs.js';

/** Hyper-V disks, second generation. */
export const vhdx: ImageFormat = {
  name: 'vhdx',
  extensions: ['vhdx', 'avhdx'],
  probe: (head) => head.length >= 8 && latin1(head.subarray(0, 8)) === FILE_ID,
  open: openVhdx,
  create: createVhdx,
  createOptions,
};
