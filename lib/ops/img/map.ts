import type { Extent, Image } from '../../image/format.js';

export interface MapEntry extends Extent {
  readonly start: number;
}

/** Allocation from `start` on, neighbours of one kind joined. */
export function* mapImage(image: Image, start: number, length: number): Generator<MapEntry> {
  const end = Math.min(image.size, start + length);
  let last: MapEntry | undefined;
  for (let at = start; at < end; ) {
    const e = extentOf(image, at, end - at);
    if (last !== undefined && joins(last, e)) last = { ...last, length: last.length + e.length };
    else {
      if (last !== undefined) yield last;
      last = { ...e, start: at };
    }
    at += e.length;
  }
  if (last !== undefined) yield last;
}

/** QEMU calls all of a disk present where the format has no layers. */
const LAYERED = new Set(['qcow2', 'vmdk']);
export function extentOf(image: Image, offset: number, length: number): Extent {
  const e = image.extent(offset, length);
  return e.present || image.backing !== undefined || LAYERED.has(image.format) ? e : { ...e, present: true };
}

function joins(a: MapEntry, b: Extent): boolean {
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    a.filename === b.filename &&
    (a.offset === undefined) === (b.offset === undefined) &&
    (a.offset === undefined || a.offset + a.length === b.offset)
  );
}
