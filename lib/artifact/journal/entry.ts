import { decodeName } from '../../core/text.js';
import type { JournalFile } from './file.js';

/** One field: "NAME=value", the value any bytes. */
export class JournalField {
  #text: string | undefined;
  constructor(
    readonly name: string,
    readonly value: Uint8Array,
  ) {}
  /** The value as text; bytes that are not UTF-8 are kept as lone surrogates (see core/text). */
  get text(): string {
    return (this.#text ??= decodeName(this.value));
  }
}

/** One entry.  Its fields are read when they are asked for. */
export class JournalEntry {
  #fields: readonly JournalField[] | undefined;
  constructor(
    readonly file: JournalFile,
    /** Position in the file. */
    readonly offset: number,
    readonly seqnum: number,
    /** µs since 1970. */
    readonly realtime: number,
    /** µs since boot. */
    readonly monotonic: number,
    /** 32 hexadecimal digits. */
    readonly bootId: string,
  ) {}

  /** All fields in the file's order; a name may come more than once.  What cannot be read is left out and reported by the file. */
  get fields(): readonly JournalField[] {
    return (this.#fields ??= this.file.fieldsOf(this.offset));
  }
  /** The first value of a field. */
  get(name: string): string | undefined {
    return this.find(name)?.text;
  }
  find(name: string): JournalField | undefined {
    for (const f of this.fields) if (f.name === name) return f;
    return undefined;
  }
  /** journalctl's name for this entry. */
  get cursor(): string {
    const hash = this.file.xorHashOf(this.offset);
    return `s=${this.file.seqnumId};i=${this.seqnum.toString(16)};b=${this.bootId};m=${this.monotonic.toString(16)};t=${this.realtime.toString(16)};x=${hash.toString(16)}`;
  }
}
