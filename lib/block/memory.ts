import { checkRange, type ResizableSource, type Run } from './source.js';

/** Bytes in memory: tests, and small things that are parsed as if they were disks. */
export class MemorySource implements ResizableSource {
  #bytes: Uint8Array;
  constructor(
    bytes: Uint8Array | number,
    readonly label = 'memory',
    readonly sectorSize = 512,
  ) {
    this.#bytes = typeof bytes === 'number' ? new Uint8Array(bytes) : bytes;
  }
  get size(): number {
    return this.#bytes.length;
  }
  /** The bytes themselves, not a copy. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }
  write(from: Uint8Array, offset: number): void {
    if (offset + from.length > this.#bytes.length) this.resize(offset + from.length);
    this.#bytes.set(from, offset);
  }
  zero(offset: number, length: number): void {
    if (offset + length > this.#bytes.length) this.resize(offset + length);
    this.#bytes.fill(0, offset, offset + length);
  }
  resize(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.#bytes.subarray(0, Math.min(size, this.#bytes.length)));
    this.#bytes = next;
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return { kind: 'computed', length };
  }
  flush(): void {}
  close(): void {}
}
