import type { BlockSource } from '../../block/source.js';
import type { Extent, Image } from '../format.js';
import { COMPRESSED, DATA, find, UNALLOCATED, UNALLOCATED_ALLOC, ZERO_ALLOC } from './lookup.js';
import type { State } from './state.js';
import type { Table } from './table.js';

/** Block status of the guest's view, in the terms of `qemu-img map`. */
export function guestExtent(s: State, l1: Table, offset: number, length: number, askHoles: () => boolean): Extent {
  const run = find(s, l1, offset, length);
  const n = run.length;
  const encrypted = s.header.cryptMethod !== 0;
  const place = run.host >= 0 && !encrypted ? run.host : undefined;
  switch (run.kind) {
    case DATA: {
      if (!encrypted && run.host < s.dataFile.size && askHoles()) {
        const below = s.dataFile.map(run.host, Math.min(n, s.dataFile.size - run.host));
        return made(s, below.length, true, below.kind === 'zero', true, place);
      }
      return made(s, n, true, false, true, place);
    }
    case COMPRESSED:
      return { length: n, depth: 0, present: true, zero: false, data: true, compressed: true };
    case ZERO_ALLOC:
      return made(s, n, true, true, false, place);
    case UNALLOCATED:
    case UNALLOCATED_ALLOC: {
      const inside = s.backing === undefined ? 0 : s.backing.size - offset;
      if (inside > 0) return backingExtent(s.backing!, offset, Math.min(n, inside));
      return made(s, n, false, true, false, run.kind === UNALLOCATED_ALLOC ? place : undefined);
    }
    default:
      return made(s, n, true, true, false, undefined);
  }
}

/** Literals, not spread objects: fragmented images have very many extents. */
function made(s: State, length: number, present: boolean, zero: boolean, data: boolean, offset: number | undefined): Extent {
  return offset === undefined
    ? { length, depth: 0, present, zero, data, compressed: false }
    : { length, depth: 0, present, zero, data, compressed: false, offset, filename: s.dataFile.label };
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
