const SMALL = 4096;

/** Bytes in the order in which they came, in the pieces in which they came: nothing is copied before it is asked for. */
export class ByteQueue {
  readonly #chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that are gone. */
  #start = 0;
  #length = 0;
  /** Where small chunks are gathered. */
  #tail: { readonly room: Uint8Array; used: number; view: Uint8Array } | undefined;

  get length(): number {
    return this.#length;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#length += chunk.length;
    if (chunk.length >= SMALL) {
      this.#chunks.push(chunk);
      return;
    }
    // A peer that sends single bytes must not cost us an object a byte.
    const last = this.#chunks.length - 1;
    const tail = this.#tail;
    if (tail !== undefined && this.#chunks[last] === tail.view && tail.used + chunk.length <= tail.room.length) {
      tail.room.set(chunk, tail.used);
      tail.used += chunk.length;
      tail.view = tail.room.subarray(0, tail.used);
      this.#chunks[last] = tail.view;
      return;
    }
    const room = new Uint8Array(SMALL * 4);
    room.set(chunk);
    const view = room.subarray(0, chunk.length);
    this.#tail = { room, used: chunk.length, view };
    this.#chunks.push(view);
  }

  /** The next `n` bytes, left in place; undefined while there are fewer. */
  peek(n: number): Uint8Array | undefined {
    return n > this.#length ? undefined : this.#view(n);
  }

  #view(n: number): Uint8Array {
    const first = this.#chunks[0];
    if (first !== undefined && first.length - this.#start >= n) return first.subarray(this.#start, this.#start + n);
    const b = new Uint8Array(n);
    let done = 0;
    for (let i = 0; done < n; i++) {
      const c = this.#chunks[i]!;
      const from = i === 0 ? this.#start : 0;
      const part = Math.min(n - done, c.length - from);
      b.set(c.subarray(from, from + part), done);
      done += part;
    }
    return b;
  }

  /** Takes the next `n` bytes; undefined while there are fewer.  The result may share memory with what was pushed. */
  take(n: number): Uint8Array | undefined {
    const b = this.peek(n);
    if (b !== undefined) this.skip(n);
    return b;
  }

  /** Takes what is there of the first chunk, at most `n` bytes. */
  takeSome(n: number): Uint8Array {
    const first = this.#chunks[0];
    if (first === undefined) return new Uint8Array(0);
    const b = first.subarray(this.#start, Math.min(first.length, this.#start + n));
    this.skip(b.length);
    return b;
  }

  /** Drops up to `n` bytes; the number dropped. */
  skip(n: number): number {
    const want = Math.min(n, this.#length);
    let left = want;
    let gone = 0;
    while (left > 0) {
      const here = this.#chunks[gone]!.length - this.#start;
      if (here > left) {
        this.#start += left;
        left = 0;
      } else {
        left -= here;
        gone++;
        this.#start = 0;
      }
    }
    if (gone > 0) this.#chunks.splice(0, gone);
    this.#length -= want;
    return want;
  }
}
