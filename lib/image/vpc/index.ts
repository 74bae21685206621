import { readUpTo } from '../../block/source.js';
import { latin1 } from '../../core/text.js';
import type { ImageFormat } from '../format.js';
import { createOptions, createVpc } from './create.js';
import { openVpc } from './open.js';
import { COOKIE, FOOTER_BYTES } from './structs.js';

/** Virtual PC and Hyper-V (first generation): VHD, called "vpc" as qemu-img calls it. */
export const vpc: ImageFormat = {
  name: 'vpc',
  extensions: ['vhd', 'vpc'],
  // A fixed disk has no mark at its start and is taken for raw, as qemu-img does: what a guest writes into the last
  // sector of a raw disk must not change how it is read.
  probe: (head) => head.length >= 8 && latin1(head.subarray(0, 8)) === COOKIE,
  accepts: (head, file) =>
    (head.length >= 8 && latin1(head.subarray(0, 8)) === COOKIE) ||
    [FOOTER_BYTES, FOOTER_BYTES - 1].some((n) => latin1(readUpTo(file, Math.max(0, file.size - n), 8)) === COOKIE),
  open: openVpc,
  create: createVpc,
  createOptions,
};
