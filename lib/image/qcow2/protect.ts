import { corrupt, hex } from '../../core/errors.js';
import type { Refcounts } from './refcounts.js';
import type { State } from './state.js';
import { INCOMPAT_CORRUPT } from './structs.js';
import type { Table } from './table.js';

/**
 * Clusters that hold metadata.  A damaged L2 entry may point at them: guest data written there would destroy the image,
 * so such a write marks the image corrupt and is refused.
 */
export class Protection {
  readonly #clusters = new Set<number>();
  constructor(
    private readonly s: State,
    private readonly refcounts: Refcounts,
  ) {
    refcounts.guard = (c) => this.#clusters.has(c);
    refcounts.onMetadata = (c) => this.add(c);
  }

  build(): void {
    const { s, refcounts } = this;
    this.#clusters.clear();
    this.addRange(0, 1);
    this.addRange(s.l1.offset, s.l1.bytes.length);
    this.addRange(refcounts.table.offset, refcounts.table.bytes.length);
    for (let i = 0; i < refcounts.table.entries; i++) {
      const at = refcounts.blockOffset(i);
      if (at !== 0) this.addRange(at, s.clusterSize);
    }
    const bases = new Set(this.#clusters);
    for (let i = 0; i < s.l1.entries; i++) {
      const at = s.l1.target(i);
      if (at === 0) continue;
      if (at % s.clusterSize !== 0) throw corrupt(`L2 table at ${hex(at)} is not aligned to clusters`, { offset: at });
      if (bases.has(at / s.clusterSize)) throw this.#mark(`L2 table at ${hex(at)} overlaps other metadata`, at);
      this.add(at / s.clusterSize);
    }
  }

  addRange(offset: number, length: number): void {
    const cs = this.s.clusterSize;
    for (let c = Math.floor(offset / cs); c * cs < offset + length; c++) this.#clusters.add(c);
  }
  addTable(t: Table): void {
    this.addRange(t.offset, t.bytes.length);
  }
  add(cluster: number): void {
    this.#clusters.add(cluster);
  }
  delete(cluster: number): void {
    this.#clusters.delete(cluster);
  }

  refuseOverlap(host: number, length: number): void {
    if (this.s.hasDataFile) return;
    const cs = this.s.clusterSize;
    const end = host + length;
    for (let c = Math.floor(host / cs); c * cs < end; c++)
      if (this.#clusters.has(c)) throw this.#mark(`guest data would overwrite metadata at ${hex(c * cs)}`, c * cs);
  }

  #mark(message: string, offset: number) {
    if (this.s.header.version >= 3) {
      this.s.header.incompatible |= INCOMPAT_CORRUPT;
      this.s.writeHeader();
    }
    return corrupt(`${message}: the image is damaged and was marked so (qemu-img check -r all)`, { offset });
  }
}
