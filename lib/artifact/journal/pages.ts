import { corrupt, hex } from '../../core/errors.js';

/** A file of a guest: what a filesystem node gives. */
export interface ByteFile {
  readonly size: number;
  /** Up to into.length bytes; 0 at the end. */
  read(into: Uint8Array, offset: number): number;
}

const PAGE = 256 << 10;
const MAX_PAGES = 64;

/**
 * Random access to a file of any size through a few large pages.  `seek` leaves `bytes`, `view` and `at` standing on what
 * was asked for, so that a record costs no object.
 */
export class Pages {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  at = 0;
  readonly #pages = new Map<number, { readonly bytes: Uint8Array; readonly view: DataView }>();
  #current = -1;

  constructor(private readonly file: ByteFile) {}

  get size(): number {
    return this.file.size;
  }

  /** Makes `length` bytes from `offset` readable at `this.at` of `this.bytes`, all of them in one piece. */
  seek(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.file.size)
      throw corrupt(`${length} bytes at ${hex(offset)} are past the end of the journal (size ${hex(this.file.size)})`, {
        offset,
      });
    const number = Math.floor(offset / PAGE);
    const within = offset - number * PAGE;
    if (within + length > PAGE) {
      this.bytes = this.#load(offset, length);
      this.view = new DataView(this.bytes.buffer);
      this.at = 0;
      this.#current = -1;
      return;
    }
    this.at = within;
    if (number === this.#current) return;
    let page = this.#pages.get(number);
    if (page === undefined) {
      const bytes = this.#load(number * PAGE, Math.min(PAGE, this.file.size - number * PAGE));
      page = { bytes, view: new DataView(bytes.buffer) };
      if (this.#pages.size >= MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value!);
    } else this.#pages.delete(number);
    // Last used stands last.
    this.#pages.set(number, page);
    this.#current = number;
    this.bytes = page.bytes;
    this.view = page.view;
  }

  #load(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const n = this.file.read(done === 0 ? out : out.subarray(done), offset + done);
      if (n === 0)
        throw corrupt(`the journal ends at ${hex(offset + done)}, before its size of ${hex(this.file.size)}`, { offset });
      done += n;
    }
    return out;
  }

  /** Lets go of the memory; it comes back as it is needed. */
  drop(): void {
    this.#pages.clear();
    this.#current = -1;
    this.bytes = new Uint8Array(0);
    this.view = new DataView(this.bytes.buffer);
  }
}
