import { CachedSource } from '../../block/cache.js';
import type { BlockSource } from '../../block/source.js';
import { corrupt, hex } from '../../core/errors.js';
import type { Geometry } from './geometry.js';

/** Clusters that follow each other, or a stretch that is not made of clusters (the old root directory). */
export interface Stretch {
  readonly at: number;
  readonly length: number;
}

const PROBLEMS_MAX = 100;
const BAD: Readonly<Record<number, number>> = { 12: 0xff7, 16: 0xfff7, 32: 0x0ffffff7 };

/** A FAT filesystem below the level of names: the allocation table and its chains. */
export class Volume {
  readonly cache: CachedSource;
  readonly problems: string[] = [];
  /** Which entry leads to the directory that starts at a cluster: each may be in one place only, or walking never ends. */
  readonly #homes = new Map<number, number>();
  readonly #said = new Set<string>();
  readonly #bad: number;

  constructor(
    readonly source: BlockSource,
    readonly geometry: Geometry,
  ) {
    this.cache = new CachedSource(source);
    this.#bad = BAD[geometry.bits]!;
  }

  report(problem: string): void {
    if (this.#said.has(problem) || this.#said.size > PROBLEMS_MAX) return;
    this.#said.add(problem);
    this.problems.push(this.#said.size > PROBLEMS_MAX ? 'more problems follow, not listed' : problem);
  }

  clusterAt(n: number): number {
    return this.geometry.dataStart + (n - 2) * this.geometry.clusterSize;
  }
  isCluster(n: number): boolean {
    return n >= 2 && n < this.geometry.clusterEnd;
  }

  /** Throws when another entry leads to the same directory. */
  claimDirectory(cluster: number, entry: number): void {
    const home = this.#homes.get(cluster);
    if (home === undefined) this.#homes.set(cluster, entry);
    else if (home !== entry)
      throw corrupt(`fat: the directory at cluster ${cluster} is in two places (entries at ${hex(home)} and ${hex(entry)})`, {
        offset: entry,
      });
  }

  #entry(fat: number, n: number): number {
    const { bits, fatStart, fatBytes } = this.geometry;
    const base = fatStart + fat * fatBytes;
    if (bits === 32) {
      const b = this.cache.view(base + n * 4, 4);
      return ((b[0]! | (b[1]! << 8) | (b[2]! << 16) | (b[3]! << 24)) & 0x0fffffff) >>> 0;
    }
    if (bits === 16) {
      const b = this.cache.view(base + n * 2, 2);
      return b[0]! | (b[1]! << 8);
    }
    const b = this.cache.view(base + ((n * 3) >> 1), 2);
    const pair = b[0]! | (b[1]! << 8);
    return n & 1 ? pair >> 4 : pair & 0xfff;
  }

  /** The cluster that follows `n`, or 0 at the end of a chain. */
  next(n: number): number {
    const { fats, activeFat, mirrored } = this.geometry;
    const first = this.#entry(activeFat, n);
    if (first > this.#bad) return 0;
    if (this.isCluster(first)) return first;
    for (let fat = 0; mirrored && fat < fats; fat++) {
      if (fat === activeFat) continue;
      const other = this.#entry(fat, n);
      if (other <= this.#bad && !this.isCluster(other)) continue;
      this.report(`cluster ${n}: FAT ${activeFat + 1} says ${hex(first)}, which is no cluster; FAT ${fat + 1} is used instead`);
      return other > this.#bad ? 0 : other;
    }
    const what = first === 0 ? 'is free' : first === this.#bad ? 'is bad' : `leads to ${hex(first)}`;
    throw corrupt(`fat: a chain goes through cluster ${n}, which ${what}`, { offset: this.clusterAt(n) });
  }

  /**
   * A chain as stretches of neighbouring clusters, `most` bytes long at most.  Chains that loop are found (Brent's way: the
   * cluster remembered moves on at each power of two).
   */
  chain(start: number, most: number): Stretch[] {
    const out: { at: number; length: number }[] = [];
    const { clusterSize } = this.geometry;
    if (!this.isCluster(start)) throw corrupt(`fat: a chain starts at cluster ${start} (2 to ${this.geometry.clusterEnd - 1})`);
    let mark = start;
    let steps = 0;
    let power = 1;
    for (let n = start, bytes = 0; n !== 0 && bytes < most; bytes += clusterSize) {
      const at = this.clusterAt(n);
      const last = out[out.length - 1];
      if (last !== undefined && last.at + last.length === at) last.length += clusterSize;
      else out.push({ at, length: clusterSize });
      if (bytes + clusterSize >= most) break;
      n = this.next(n);
      if (n === mark) throw corrupt(`fat: the chain from cluster ${start} comes back to cluster ${n}`, { offset: at });
      if (++steps === power) {
        mark = n;
        power *= 2;
        steps = 0;
      }
    }
    return out;
  }

  /** Clusters that are free, counted as the kernel does. */
  countFree(): number {
    const { bits, clusterEnd, fatStart, fatBytes, activeFat } = this.geometry;
    let free = 0;
    if (bits === 12) {
      for (let n = 2; n < clusterEnd; n++) if (this.#entry(activeFat, n) === 0) free++;
      return free;
    }
    const width = bits / 8;
    const buffer = new Uint8Array(1 << 20);
    const view = new DataView(buffer.buffer);
    const total = clusterEnd * width;
    for (let at = 0; at < total; at += buffer.length) {
      const n = Math.min(buffer.length, total - at);
      this.source.read(buffer.subarray(0, n), fatStart + activeFat * fatBytes + at);
      for (let o = at === 0 ? 2 * width : 0; o < n; o += width)
        if ((width === 2 ? view.getUint16(o, true) : view.getUint32(o, true) & 0x0fffffff) === 0) free++;
    }
    return free;
  }
}
