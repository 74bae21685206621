import type { BlockSource, WritableSource } from '../block/source.js';
import { corrupt, hex } from '../core/errors.js';
import { Lru } from '../core/lru.js';

/** A part of an allocation table in memory.  A page holds table bytes only, so writing it whole never touches data. */
export interface TablePage {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where a second copy of the table has these bytes. */
  mirror?: number | undefined;
}

/**
 * Allocation tables (grain tables, BAT, block map) of one file, loaded by need and bounded in memory.  Changes stay here
 * until `sync`, which first puts the data they point to on stable storage: a crash leaves unused blocks, never a table
 * entry that points to bytes not yet written.
 */
export class TableCache {
  readonly #pages: Lru<number, TablePage>;
  readonly #dirty = new Set<TablePage>();
  #last: TablePage | undefined;

  constructor(
    private readonly file: BlockSource,
    private readonly what: string,
    bound = 4 << 20,
  ) {
    this.#pages = new Lru(bound, (_at, page) => {
      if (this.#last === page) this.#last = undefined;
      if (this.#dirty.has(page)) this.sync();
    });
  }

  /** The page that begins at `at`; callers always cut a table in the same pages. */
  page(at: number, length: number): TablePage {
    const last = this.#last;
    if (last !== undefined && last.at === at && last.bytes.length === length) return last;
    let page = this.#pages.get(at);
    if (page === undefined) {
      if (at < 0 || at + length > this.file.size)
        throw corrupt(
          `${this.file.label}: ${this.what} at ${hex(at)} is past the end of the file (size ${hex(this.file.size)})`,
          {
            offset: at,
          },
        );
      const bytes = new Uint8Array(length);
      this.file.read(bytes, at);
      page = { at, bytes, view: new DataView(bytes.buffer) };
      this.#pages.set(at, page, length + 64);
    } else if (page.bytes.length !== length)
      // One table is always cut the same way, so this is another one that claims the same bytes.
      throw corrupt(`${this.file.label}: two tables overlap at ${hex(at)} (${this.what})`, { offset: at });
    this.#last = page;
    return page;
  }

  changed(page: TablePage): void {
    this.#dirty.add(page);
  }

  get dirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Data first, then the tables, neighbours in one write. */
  sync(): void {
    if (this.#dirty.size === 0) return;
    const file = this.file as WritableSource;
    const pages = [...this.#dirty].sort((a, b) => a.at - b.at);
    file.flush();
    for (const p of pages) {
      file.write(p.bytes, p.at);
      if (p.mirror !== undefined) file.write(p.bytes, p.mirror);
    }
    this.#dirty.clear();
  }

  /** Forgets what is not dirty (a table moved or grew). */
  forget(): void {
    this.sync();
    this.#pages.clear();
    this.#last = undefined;
  }
}

/** One linear table of 32- or 64-bit entries, cut in pages of 16 KiB. */
export class EntryTable {
  constructor(
    private readonly cache: TableCache,
    private readonly start: number,
    readonly count: number,
    private readonly width: 4 | 8,
    private readonly le: boolean,
  ) {}

  #page(byte: number): TablePage {
    // Two sizes of a header can contradict each other: what one of them promises, the table need not hold.
    if (byte >= this.count * this.width)
      throw corrupt(`entry ${byte / this.width} of a table at ${hex(this.start)} that has ${this.count}`, { offset: this.start });
    const first = byte - (byte % PAGE);
    return this.cache.page(this.start + first, Math.min(PAGE, this.count * this.width - first));
  }
  u32(i: number): number {
    const byte = i * this.width;
    const p = this.#page(byte);
    return p.view.getUint32(byte % PAGE, this.le);
  }
  /** The upper half of a 64-bit little-endian entry; `u32` gives the lower one. */
  high(i: number): number {
    const byte = i * this.width;
    const p = this.#page(byte);
    return p.view.getUint32((byte % PAGE) + 4, this.le);
  }
  set32(i: number, value: number): void {
    const byte = i * this.width;
    const p = this.#page(byte);
    p.view.setUint32(byte % PAGE, value, this.le);
    this.cache.changed(p);
  }
  set64(i: number, low: number, high: number): void {
    const byte = i * this.width;
    const p = this.#page(byte);
    p.view.setUint32(byte % PAGE, low >>> 0, true);
    p.view.setUint32((byte % PAGE) + 4, high >>> 0, true);
    this.cache.changed(p);
  }
}
const PAGE = 16384;
