import { type BlockSource, checkRange, isWritable, type Run, type WritableSource } from '../block/source.js';
import { GuestError } from '../core/errors.js';
import type { SectorCipher } from './sector.js';

/** The plain bytes of an encrypted device: `payloadOffset` into the source below, sectors counted from `firstSector`. */
export class DecryptedSource implements WritableSource {
  readonly size: number;
  readonly label: string;
  readonly sectorSize: number;
  constructor(
    private readonly below: BlockSource,
    private readonly cipher: SectorCipher,
    private readonly payloadOffset: number,
    options: { readonly size?: number; readonly label?: string; readonly firstSector?: number } = {},
  ) {
    this.size = options.size ?? Math.max(0, below.size - payloadOffset);
    this.label = options.label ?? below.label;
    this.sectorSize = below.sectorSize;
    this.#first = options.firstSector ?? 0;
    checkRange(below, payloadOffset, this.size);
  }
  readonly #first: number;

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    const unit = this.cipher.sectorSize;
    const before = offset % unit;
    const sector = this.#first + (offset - before) / unit;
    if (before === 0 && into.length % unit === 0) {
      this.below.read(into, this.payloadOffset + offset);
      this.cipher.decrypt(into, sector);
      return;
    }
    const span = this.#whole(offset - before, before + into.length);
    into.set(span.subarray(before, before + into.length));
  }

  /** Whole sectors around a range, decrypted. */
  #whole(start: number, length: number): Uint8Array {
    const unit = this.cipher.sectorSize;
    const b = new Uint8Array(Math.ceil(length / unit) * unit);
    this.below.read(b.subarray(0, Math.min(b.length, this.size - start)), this.payloadOffset + start);
    this.cipher.decrypt(b, this.#first + start / unit);
    return b;
  }

  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    if (!isWritable(this.below)) throw new GuestError('read-only', `${this.label} is open for reading only`);
    const unit = this.cipher.sectorSize;
    const before = offset % unit;
    const start = offset - before;
    const aligned = before === 0 && from.length % unit === 0;
    const b = aligned ? from.slice() : this.#whole(start, before + from.length);
    if (!aligned) b.set(from, before);
    this.cipher.encrypt(b, this.#first + start / unit);
    this.below.write(b.subarray(0, Math.min(b.length, this.size - start)), this.payloadOffset + start);
  }

  zero(offset: number, length: number): void {
    const z = new Uint8Array(Math.min(length, 1 << 20));
    for (let at = 0; at < length; at += z.length) this.write(z.subarray(0, Math.min(z.length, length - at)), offset + at);
  }
  flush(): void {
    if (isWritable(this.below)) this.below.flush();
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return { kind: 'computed', length };
  }
  close(): void {}
}
