import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { preadFull, pwriteFull } from '../addon/sysio.js';
import { GuestError } from '../core/errors.js';
import { type BlockSource, checkRange, type Run, type WritableSource } from './source.js';

const BLOCK = 4096;

/**
 * Copy-on-write over a source that is never changed: written blocks of 4096 bytes live in memory, and beyond
 * `memoryBytes` in an unlinked temporary file.  Journal replay, VHDX log replay and `--ro` writing use it.
 */
export class Overlay implements WritableSource {
  readonly label: string;
  readonly size: number;
  readonly sectorSize: number;
  readonly #memory = new Map<number, Uint8Array>();
  readonly #spilled = new Map<number, number>();
  #fd: number | undefined;
  #spillEnd = 0;

  constructor(
    private readonly below: BlockSource,
    private readonly options: { readonly memoryBytes?: number; readonly maxBytes?: number } = {},
  ) {
    this.label = below.label;
    this.size = below.size;
    this.sectorSize = below.sectorSize;
  }

  /** Bytes that differ from the source below. */
  get writtenBytes(): number {
    return (this.#memory.size + this.#spilled.size) * BLOCK;
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const { written, length } = this.#runAt(at, into.length - done);
      const part = into.subarray(done, done + length);
      if (!written) this.below.read(part, at);
      else {
        const block = Math.floor(at / BLOCK);
        part.set(this.#block(block)!.subarray(at - block * BLOCK, at - block * BLOCK + length));
      }
      done += length;
    }
  }

  /** The first run that is all written (at most one block) or all unwritten. */
  #runAt(at: number, length: number): { written: boolean; length: number } {
    let block = Math.floor(at / BLOCK);
    if (this.#has(block)) return { written: true, length: Math.min(length, (block + 1) * BLOCK - at) };
    if (this.#memory.size + this.#spilled.size === 0) return { written: false, length };
    const end = at + length;
    do block++;
    while (block * BLOCK < end && !this.#has(block));
    return { written: false, length: Math.min(end, block * BLOCK) - at };
  }
  #has(block: number): boolean {
    return this.#memory.has(block) || this.#spilled.has(block);
  }
  #block(block: number): Uint8Array | undefined {
    const m = this.#memory.get(block);
    if (m !== undefined) return m;
    const at = this.#spilled.get(block);
    if (at === undefined) return undefined;
    const b = new Uint8Array(BLOCK);
    preadFull(this.#fd!, b, at);
    return b;
  }

  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const block = Math.floor(at / BLOCK);
      const inside = at - block * BLOCK;
      const n = Math.min(BLOCK - inside, from.length - done);
      let b = this.#block(block);
      if (b === undefined) {
        b = new Uint8Array(BLOCK);
        const start = block * BLOCK;
        if (n < BLOCK) this.below.read(b.subarray(0, Math.min(BLOCK, this.size - start)), start);
      }
      b.set(from.subarray(done, done + n), inside);
      this.#store(block, b);
      done += n;
    }
  }

  #store(block: number, b: Uint8Array): void {
    const spilledAt = this.#spilled.get(block);
    if (spilledAt !== undefined) return pwriteFull(this.#fd!, b, spilledAt);
    if (this.#memory.has(block) || this.#memory.size * BLOCK < (this.options.memoryBytes ?? 64 << 20)) {
      this.#memory.set(block, b);
      return;
    }
    if (this.writtenBytes >= (this.options.maxBytes ?? Number.POSITIVE_INFINITY))
      throw new GuestError('no-space', `${this.label}: more than ${this.options.maxBytes} bytes changed in the overlay`);
    this.#fd ??= unlinkedFile();
    pwriteFull(this.#fd, b, this.#spillEnd);
    this.#spilled.set(block, this.#spillEnd);
    this.#spillEnd += BLOCK;
  }

  zero(offset: number, length: number): void {
    const z = new Uint8Array(Math.min(length, 1 << 20));
    for (let at = 0; at < length; at += z.length) this.write(z.subarray(0, Math.min(z.length, length - at)), offset + at);
  }

  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const run = this.#runAt(offset, length);
    return run.written ? { kind: 'computed', length: run.length } : this.below.map(offset, run.length);
  }
  flush(): void {}
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#memory.clear();
    this.#spilled.clear();
  }
}

/** A temporary file that has no name any more: it goes with the process, however that ends. */
function unlinkedFile(): number {
  const dir = mkdtempSync(join(tmpdir(), 'guestwright-'));
  try {
    return openSync(join(dir, 'overlay'), 'wx+', 0o600);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
