/** A cache bounded by the sum of its entries' weights (bytes); the least recently used entry leaves first. */
export class Lru<K, V> {
  readonly #map = new Map<K, { readonly value: V; readonly weight: number }>();
  #total = 0;
  constructor(
    readonly bound: number,
    private readonly evicted?: (key: K, value: V) => void,
  ) {}

  get size(): number {
    return this.#map.size;
  }
  get weight(): number {
    return this.#total;
  }

  get(key: K): V | undefined {
    const e = this.#map.get(key);
    if (e === undefined) return undefined;
    this.#map.delete(key);
    this.#map.set(key, e);
    return e.value;
  }

  set(key: K, value: V, weight = 1): void {
    const old = this.#map.get(key);
    if (old !== undefined) {
      this.#total -= old.weight;
      this.#map.delete(key);
    }
    this.#map.set(key, { value, weight });
    this.#total += weight;
    for (const [k, e] of this.#map) {
      if (this.#total <= this.bound || k === key) break;
      this.#map.delete(k);
      this.#total -= e.weight;
      this.evicted?.(k, e.value);
    }
  }

  delete(key: K): void {
    const e = this.#map.get(key);
    if (e === undefined) return;
    this.#map.delete(key);
    this.#total -= e.weight;
  }

  clear(): void {
    this.#map.clear();
    this.#total = 0;
  }

  values(): IterableIterator<V> {
    const it = this.#map.values();
    return (function* () {
      for (const e of it) yield e.value;
    })();
  }
}
