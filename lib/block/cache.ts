import { type BlockSource, checkRange, type Range, type Run } from './source.js';

/** One cached block: in its source's map, and in the pool's list from most to least recently used. */
interface Entry {
  readonly owner: Map<number, Entry>;
  readonly index: number;
  readonly block: Uint8Array;
  newer: Entry | undefined;
  older: Entry | undefined;
}

/** Blocks of many sources under one bound in bytes: the least recently used block of any of them leaves first. */
export class BlockPool {
  #newest: Entry | undefined;
  #oldest: Entry | undefined;
  #bytes = 0;
  constructor(readonly bound: number) {}
  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  use(e: Entry): void {
    if (e === this.#newest) return;
    this.#unlink(e);
    this.#push(e);
  }
  add(owner: Map<number, Entry>, index: number, block: Uint8Array): void {
    const e: Entry = { owner, index, block, newer: undefined, older: undefined };
    owner.set(index, e);
    this.#push(e);
    this.#bytes += block.length;
    while (this.#bytes > this.bound && this.#oldest !== undefined && this.#oldest !== e) this.remove(this.#oldest);
  }
  remove(e: Entry): void {
    this.#unlink(e);
    e.owner.delete(e.index);
    this.#bytes -= e.block.length;
  }
  #push(e: Entry): void {
    e.older = this.#newest;
    if (this.#newest !== undefined) this.#newest.newer = e;
    this.#newest = e;
    this.#oldest ??= e;
  }
  #unlink(e: Entry): void {
    if (e.newer !== undefined) e.newer.older = e.older;
    else this.#newest = e.older;
    if (e.older !== undefined) e.older.newer = e.newer;
    else this.#oldest = e.newer;
    e.newer = undefined;
    e.older = undefined;
  }
}

/** The cache that all devices of this process share: however many images are open, metadata takes no more than this. */
const shared = new BlockPool(48 << 20);

export interface CacheOptions {
  /** Bytes of one cached block, a power of two. */
  readonly blockSize?: number;
  /** Instead of the pool that all sources share. */
  readonly pool?: BlockPool;
  /** Reads of at least this many bytes pass by the cache: file data. */
  readonly bypass?: number;
}

/**
 * The metadata cache of a device: small reads are served from whole blocks that were read once, large ones (file data)
 * pass by.  `block()` lends a view of a cached block without copying.
 */
export class CachedSource implements BlockSource {
  readonly label: string;
  readonly size: number;
  readonly sectorSize: number;
  readonly blockSize: number;
  readonly #bypass: number;
  readonly #pool: BlockPool;
  readonly #blocks = new Map<number, Entry>();
  #lastIndex = -1;
  #lastBlock: Uint8Array | undefined;

  constructor(
    private readonly below: BlockSource,
    options: CacheOptions = {},
  ) {
    this.label = below.label;
    this.size = below.size;
    this.sectorSize = below.sectorSize;
    this.blockSize = options.blockSize ?? 16384;
    this.#bypass = options.bypass ?? 131072;
    this.#pool = options.pool ?? shared;
  }

  #load(index: number): Uint8Array {
    if (index === this.#lastIndex) return this.#lastBlock!;
    const e = this.#blocks.get(index);
    let b = e?.block;
    if (e !== undefined) this.#pool.use(e);
    if (b === undefined) {
      const start = index * this.blockSize;
      b = new Uint8Array(Math.min(this.blockSize, this.size - start));
      this.below.read(b, start);
      this.#pool.add(this.#blocks, index, b);
    }
    this.#lastIndex = index;
    this.#lastBlock = b;
    return b;
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    if (into.length >= this.#bypass) return this.below.read(into, offset);
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const index = Math.floor(at / this.blockSize);
      const inside = at - index * this.blockSize;
      const n = Math.min(this.blockSize - inside, into.length - done);
      into.set(this.#load(index).subarray(inside, inside + n), done);
      done += n;
    }
  }

  /**
   * The bytes of a metadata block, read-only by agreement: valid until the caller returns, not to be changed.
   * One view into the cache when the range lies in one cached block, else a fresh copy.
   */
  view(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    const index = Math.floor(offset / this.blockSize);
    const inside = offset - index * this.blockSize;
    if (inside + length <= this.blockSize) return this.#load(index).subarray(inside, inside + length);
    const b = new Uint8Array(length);
    this.read(b, offset);
    return b;
  }

  map(offset: number, length: number): Run {
    return this.below.map(offset, length);
  }
  prefetch(ranges: readonly Range[]): void {
    this.below.prefetch?.(ranges);
  }
  close(): void {
    for (const e of [...this.#blocks.values()]) this.#pool.remove(e);
    this.#lastIndex = -1;
    this.#lastBlock = undefined;
  }
}
