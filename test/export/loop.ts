import type { Negotiation } from '../../lib/block/nbd-negotiate.js';
import type { ByteQueue } from '../../lib/block/nbd-queue.js';
import { checkRange, type Run, type WritableSource } from '../../lib/block/source.js';
import type { NbdSession } from '../../lib/export/nbd/session.js';

/** Bytes that know where they are zero, in blocks of 512, and count flushes. */
export class SparseMemory implements WritableSource {
  readonly label = 'sparse memory';
  readonly sectorSize = 512;
  readonly bytes: Uint8Array;
  flushes = 0;
  constructor(readonly size: number) {
    this.bytes = new Uint8Array(size);
  }
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }
  write(from: Uint8Array, offset: number): void {
    checkRange(this, offset, from.length);
    this.bytes.set(from, offset);
  }
  zero(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.bytes.fill(0, offset, offset + length);
  }
  discard(offset: number, length: number): void {
    this.zero(offset, length);
  }
  #isZero(block: number): boolean {
    return this.bytes.subarray(block * 512, block * 512 + 512).every((b) => b === 0);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    const first = Math.floor(offset / 512);
    const zero = this.#isZero(first);
    let block = first + 1;
    while (block * 512 < offset + length && this.#isZero(block) === zero) block++;
    return { kind: zero ? 'zero' : 'computed', length: Math.min(length, block * 512 - offset) };
  }
  flush(): void {
    this.flushes++;
  }
  close(): void {}
}

/** Runs a session until it wants more bytes. */
export function pump(session: NbdSession): 'wait' | 'end' | 'starttls' {
  for (;;) {
    const s = session.step();
    if (s !== 'again') return s;
  }
}

/** A client's negotiation against a session, in memory.  What came behind its end is in `rest`. */
export function converse<T>(negotiation: Negotiation<T>, session: NbdSession, received: ByteQueue): T {
  let step = negotiation.next();
  while (step.done !== true) {
    const wish = step.value;
    if (wish === 'starttls') throw new Error('no TLS in memory');
    if ('send' in wish) {
      session.push(wish.send);
      step = negotiation.next(new Uint8Array(0));
    } else {
      let b = received.take(wish.need);
      if (b === undefined) {
        pump(session);
        b = received.take(wish.need);
      }
      if (b === undefined) throw new Error(`the server said nothing more (${wish.need} bytes wanted)`);
      step = negotiation.next(b);
    }
  }
  return step.value;
}
