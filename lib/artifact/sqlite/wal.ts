import { viewOf } from '../../core/struct.js';

/**
 * SQLite's write-ahead log (sqlite.org/fileformat2.html, section 4).  What counts is the prefix of frames whose salts and
 * running checksums are right, up to the last one that commits.
 */
const MAGIC_LE = 0x377f0682;
const MAGIC_BE = 0x377f0683;
const HEADER = 32;
const FRAME_HEADER = 24;

export interface Wal {
  readonly pageSize: number;
  /** Pages of the database after the last commit; 0 when nothing is committed. */
  readonly pages: number;
  /** Where the newest committed copy of a page lies in the log. */
  readonly pageAt: ReadonlyMap<number, number>;
}

/** Undefined for a log that is empty, stale or not one. */
export function readWal(b: Uint8Array): Wal | undefined {
  if (b.length < HEADER) return undefined;
  const v = viewOf(b);
  const magic = v.getUint32(0);
  if (magic !== MAGIC_LE && magic !== MAGIC_BE) return undefined;
  const le = magic === MAGIC_LE;
  const pageSize = v.getUint32(8);
  if (v.getUint32(4) !== 3007000 || !isPageSize(pageSize)) return undefined;
  const sum = new Checksum(new DataView(b.buffer, b.byteOffset, b.byteLength), le);
  sum.add(0, 24);
  if (!sum.is(v.getUint32(24), v.getUint32(28))) return undefined;
  const salt1 = v.getUint32(16);
  const salt2 = v.getUint32(20);
  const committed = new Map<number, number>();
  let open: [page: number, at: number][] = [];
  let pages = 0;
  for (let at = HEADER; at + FRAME_HEADER + pageSize <= b.length; at += FRAME_HEADER + pageSize) {
    const page = v.getUint32(at);
    if (page === 0 || v.getUint32(at + 8) !== salt1 || v.getUint32(at + 12) !== salt2) break;
    sum.add(at, 8);
    sum.add(at + FRAME_HEADER, pageSize);
    if (!sum.is(v.getUint32(at + 16), v.getUint32(at + 20))) break;
    open.push([page, at + FRAME_HEADER]);
    const size = v.getUint32(at + 4);
    if (size === 0) continue;
    for (const [p, where] of open) committed.set(p, where);
    open = [];
    pages = size;
  }
  return { pageSize, pages, pageAt: committed };
}

export const isPageSize = (n: number) => n >= 512 && n <= 65536 && (n & (n - 1)) === 0;

class Checksum {
  #a = 0;
  #b = 0;
  constructor(
    private readonly v: DataView,
    private readonly le: boolean,
  ) {}
  add(at: number, length: number): void {
    let a = this.#a;
    let b = this.#b;
    for (let i = at; i < at + length; i += 8) {
      a = (a + this.v.getUint32(i, this.le) + b) >>> 0;
      b = (b + this.v.getUint32(i + 4, this.le) + a) >>> 0;
    }
    this.#a = a;
    this.#b = b;
  }
  is(a: number, b: number): boolean {
    return this.#a === a && this.#b === b;
  }
}
