import { SECTOR } from './structs.js';

/** 65535 × 16 × 255 sectors: the largest CHS product; a disk that has it may be larger still. */
export const MAX_GEOMETRY = 65535 * 16 * 255;
/** 2040 GiB: what 32-bit sector numbers of blocks with their bitmaps can hold. */
export const MAX_SECTORS = 0xff000000;

export interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectorsPerTrack: number;
}
export const productOf = (g: Geometry) => g.cylinders * g.heads * g.sectorsPerTrack;

/** The specification's appendix "CHS calculation". */
export function geometryOf(totalSectors: number): Geometry {
  const total = Math.min(totalSectors, MAX_GEOMETRY);
  let sectorsPerTrack: number;
  let heads: number;
  let tracks: number;
  if (total >= 65535 * 16 * 63) {
    sectorsPerTrack = 255;
    heads = 16;
    tracks = Math.floor(total / sectorsPerTrack);
  } else {
    sectorsPerTrack = 17;
    tracks = Math.floor(total / sectorsPerTrack);
    heads = Math.max(4, Math.floor((tracks + 1023) / 1024));
    if (tracks >= heads * 1024 || heads > 16) {
      sectorsPerTrack = 31;
      heads = 16;
      tracks = Math.floor(total / sectorsPerTrack);
    }
    if (tracks >= heads * 1024) {
      sectorsPerTrack = 63;
      heads = 16;
      tracks = Math.floor(total / sectorsPerTrack);
    }
  }
  return { cylinders: Math.floor(tracks / heads), heads, sectorsPerTrack };
}

/** The smallest geometry that holds `size` bytes, and the size it stands for. */
export function roundedGeometry(size: number): { geometry: Geometry; sectors: number } {
  const wanted = Math.ceil(size / SECTOR);
  let geometry = geometryOf(wanted);
  // A cylinder is at most 4080 sectors, so this ends soon; the maximum cannot grow further.
  for (let i = 1; productOf(geometry) < Math.min(wanted, MAX_GEOMETRY); i++) geometry = geometryOf(wanted + i);
  const product = productOf(geometry);
  return { geometry, sectors: product === MAX_GEOMETRY ? Math.floor(size / SECTOR) : product };
}

/** Creators that store the true size; all others (Virtual PC, older QEMU) mean the CHS product. */
const TRUE_SIZE = new Set(['win ', 'qem2', 'd2v ', 'CTXS', 'tap\0']);

export function visibleSize(creator: string, geometry: Geometry, currentSize: number): number {
  const product = productOf(geometry);
  return TRUE_SIZE.has(creator) || product === MAX_GEOMETRY ? Math.floor(currentSize / SECTOR) * SECTOR : product * SECTOR;
}
