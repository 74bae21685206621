import { Lru } from '../core/lru.js';
import { type BlockSource, checkRange, type Range, type Run } from './source.js';

export interface CacheOptions {
  /** Bytes of one cached block, a power of two. */
  readonly blockSize?: number;
  /** Bytes held at most. */
  readonly bound?: number;
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
  readonly #lru: Lru<number, Uint8Array>;
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
    this.#lru = new Lru(options.bound ?? 16 << 20);
  }

  #load(index: number): Uint8Array {
    if (index === this.#lastIndex) return this.#lastBlock!;
    let b = this.#lru.get(index);
    if (b === undefined) {
      const start = index * this.blockSize;
      b = new Uint8Array(Math.min(this.blockSize, this.size - start));
      this.below.read(b, start);
      this.#lru.set(index, b, this.blockSize);
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
    this.#lru.clear();
    this.#lastIndex = -1;
    this.#lastBlock = undefined;
  }
}
