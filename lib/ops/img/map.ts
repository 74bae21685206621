import type { Extent, Image } from '../../image/format.js';

export interface MapEntry extends Extent {
  readonly start: number;
}

/** Allocation from `from` on, neighbours of one kind joined. */
export function* mapImage(image: Image, from: number, length: number): Generator<MapEntry> {
  const end = Math.min(image.size, from + length);
  let start = from;
  let last: Extent | undefined;
  let joined = 0;
  for (let at = from; at < end; ) {
    const e = extentOf(image, at, end - at);
    if (last !== undefined && joins(last, joined, e)) joined += e.length;
    else {
      if (last !== undefined) yield { ...last, start, length: joined };
      last = e;
      start = at;
      joined = e.length;
    }
    at += e.length;
  }
  if (last !== undefined) yield { ...last, start, length: joined };
}

/** QEMU calls all of a disk present where the format has no layers. */
const LAYERED = new Set(['qcow2', 'vmdk']);
export function extentOf(image: Image, offset: number, length: number): Extent {
  const e = image.extent(offset, length);
  return e.present || image.backing !== undefined || LAYERED.has(image.format) ? e : { ...e, present: true };
}

function joins(a: Extent, joined: number, b: Extent): boolean {
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    a.filename === b.filename &&
    (a.offset === undefined) === (b.offset === undefined) &&
    (a.offset === undefined || a.offset + joined === b.offset)
  );
}
