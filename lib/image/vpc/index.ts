import { latin1 } from '../../core/text.js';
import type { ImageFormat } from '../format.js';
import { openVpc } from './open.js';
import { COOKIE } from './structs.js';

/** Virtual PC and Hyper-V (first generation): VHD, called "vpc" as qemu-img calls it. */
export const vpc: ImageFormat = {
  name: 'vpc',
  extensions: ['vhd', 'vpc'],
  // A fixed disk has no mark at its start and is taken for raw, as qemu-img does: what a guest writes into the last
  // sector of a raw disk must not change how it is read.
  probe: (head) => head.length >= 8 && latin1(head.subarray(0, 8)) === COOKIE,
  open: openVpc,
};
