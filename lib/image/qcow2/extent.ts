import type { BlockSource } from '../../block/source.js';
import type { Extent, Image } from '../format.js';
import { COMPRESSED, DATA, find, UNALLOCATED, UNALLOCATED_ALLOC, ZERO_ALLOC } from './lookup.js';
import type { State } from './state.js';
import type { Table } from './table.js';

/** Block status of the guest's view, in the terms of `qemu-img map`. */
export function guestExtent(s: State, l1: Table, offset: number, length: number, askHoles: () => boolean): Extent {
  const run = find(s, l1, offset, length);
  const base = { length: run.length, depth: 0, present: true, zero: false, data: false, compressed: false };
  const place =
    s.cipher === undefined && s.header.cryptMethod === 0 && run.host >= 0 ? { offset: run.host, filename: s.dataFile.label } : {};
  switch (run.kind) {
    case DATA: {
      if (s.header.cryptMethod === 0 && run.host < s.dataFile.size && askHoles()) {
        const below = s.dataFile.map(run.host, Math.min(run.length, s.dataFile.size - run.host));
        return { ...base, length: below.length, data: true, zero: below.kind === 'zero', ...place };
      }
      return { ...base, data: true, ...place };
    }
    case COMPRESSED:
      return { ...base, data: true, compressed: true };
    case ZERO_ALLOC:
      return { ...base, zero: true, ...place };
    case UNALLOCATED:
    case UNALLOCATED_ALLOC: {
      const inside = s.backing === undefined ? 0 : s.backing.size - offset;
      if (inside > 0) return backingExtent(s.backing!, offset, Math.min(run.length, inside));
      return { ...base, present: false, zero: true, ...(run.kind === UNALLOCATED_ALLOC ? place : {}) };
    }
    default:
      return { ...base, zero: true };
  }
}

const isImage = (s: BlockSource): s is Image => typeof (s as Partial<Image>).extent === 'function';

function backingExtent(backing: BlockSource, offset: number, length: number): Extent {
  if (isImage(backing)) {
    const e = backing.extent(offset, length);
    return { ...e, depth: e.depth + 1 };
  }
  const run = backing.map(offset, length);
  const zero = run.kind === 'zero';
  return { length: run.length, depth: 1, present: true, zero, data: !zero, compressed: false };
}
