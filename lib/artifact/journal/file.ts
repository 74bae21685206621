import { isZero, toHex } from '../../core/bytes.js';
import { corrupt, explain, GuestError, hex, unsupported } from '../../core/errors.js';
import { latin1 } from '../../core/text.js';
import { inflatePayload } from './data.js';
import { JournalEntry, JournalField } from './entry.js';
import { type ByteFile, Pages } from './pages.js';
import {
  Data,
  Entry,
  EntryArray,
  Header,
  Incompatible,
  KNOWN_INCOMPATIBLE,
  MAX_FIELD_BYTES,
  MAX_FIELDS,
  OBJECT_HEADER,
  ObjectType,
  SIGNATURE,
} from './structs.js';

/** Decoded fields kept, by count and bytes: most entries share most of theirs. */
const CACHE_FIELDS = 65536;
const CACHE_BYTES = 32 << 20;
const MAX_PROBLEMS = 100;
/** journald makes no larger files. */
const MAX_SCAN = 2 ** 32;
const HOLE = 4096;

const align8 = (n: number) => Math.ceil(n / 8) * 8;

/**
 * One journal file, read as far as it can be: a file that was cut off or damaged gives the entries that are whole, and says
 * in `problems` what is missing.
 */
export class JournalFile {
  readonly problems: string[] = [];
  readonly machineId: string;
  readonly seqnumId: string;
  readonly #pages: Pages;
  readonly #compact: boolean;
  readonly #headerSize: number;
  readonly #entryArray: number;
  readonly #nEntries: number;
  readonly #fields = new Map<number, JournalField | null>();
  #cachedBytes = 0;
  #budget: number;
  readonly #boot = new Uint32Array(4);
  #bootId = '';
  /** Where the entry looked at last ends. */
  #entryEnd = 0;

  constructor(
    file: ByteFile,
    readonly label = 'journal',
  ) {
    this.#pages = new Pages(file);
    if (file.size < Header.size) throw new GuestError('wrong-format', `a journal of ${file.size} bytes has no header`);
    this.#pages.seek(0, Header.size);
    const h = Header.at(this.#pages.bytes.slice(0, Header.size));
    if (latin1(h.signature) !== SIGNATURE)
      throw new GuestError('wrong-format', 'not a systemd journal (signature LPKSHHRH is missing)');
    const unknown = h.incompatibleFlags & ~KNOWN_INCOMPATIBLE;
    if (unknown !== 0) throw unsupported(`journal feature ${hex(unknown >>> 0)} is not supported`);
    this.#headerSize = h.headerSize;
    if (h.headerSize < Header.size || h.headerSize > file.size || h.headerSize % 8 !== 0)
      throw corrupt(`journal header says it has ${h.headerSize} bytes`);
    if (h.headerSize + h.arenaSize > file.size)
      this.#problem(`the file is cut off: ${hex(h.headerSize + h.arenaSize)} bytes are expected, ${hex(file.size)} are there`);
    this.#compact = (h.incompatibleFlags & Incompatible.compact) !== 0;
    this.machineId = toHex(h.machineId);
    this.seqnumId = toHex(h.seqnumId);
    this.#entryArray = h.entryArrayOffset;
    this.#nEntries = h.nEntries;
    // Re-reading a field that fell out of the cache is normal; going over the whole file again and again is an attack.
    this.#budget = 2 ** 30 + 64 * file.size;
  }

  get size(): number {
    return this.#pages.size;
  }
  /** Entries that the header promises. */
  get entryCount(): number {
    return this.#nEntries;
  }
  /** Lets go of cached pages and fields. */
  drop(): void {
    this.#pages.drop();
    this.#fields.clear();
    this.#cachedBytes = 0;
  }

  #problem(text: string): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(text);
    else if (this.problems.length === MAX_PROBLEMS) this.problems.push('more problems are not listed');
  }

  /** All entries in the order in which they were written. */
  *entries(): Generator<JournalEntry> {
    let found = 0;
    let end = 0;
    let broken = false;
    try {
      for (const offset of this.#entryOffsets()) {
        if (found >= this.#nEntries) break;
        if (offset < end) {
          this.#problem(`entry at ${hex(offset)} comes before the end of the one before it`);
          broken = true;
          continue;
        }
        const entry = this.#entryAt(offset);
        if (entry === undefined) {
          broken = true;
          continue;
        }
        end = this.#entryEnd;
        found++;
        yield entry;
      }
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      this.#problem(explain(e));
      broken = true;
    }
    if (!broken && found >= this.#nEntries) return;
    if (!broken) this.#problem(`${found} entries are listed, ${this.#nEntries} are expected`);
    // The list is damaged; the objects behind the last good entry may still be whole.
    yield* this.#scan(end);
  }

  /** Entries from the arrays that list them.  Arrays grow towards the end of the file, which also bounds the walk. */
  *#entryOffsets(): Generator<number> {
    const width = this.#compact ? 4 : 8;
    let last = 0;
    for (let at = this.#entryArray; at !== 0; ) {
      if (at <= last) throw corrupt(`entry array at ${hex(at)} points back`, { offset: at });
      const size = this.#object(at, ObjectType.entryArray, EntryArray.items);
      last = at + size - 1;
      const next = this.#u64(this.#pages.at + EntryArray.next);
      for (let item = at + EntryArray.items; item + width <= at + size; item += width) {
        this.#pages.seek(item, width);
        const offset = this.#compact ? this.#pages.view.getUint32(this.#pages.at, true) : this.#u64(this.#pages.at);
        // Arrays are made larger than they need be; what is not yet used is zero.
        if (offset === 0) break;
        yield offset;
      }
      at = next;
    }
  }

  /** Entry objects behind `from`, found by stepping from object to object. */
  *#scan(from: number): Generator<JournalEntry> {
    const size = Math.min(this.#pages.size, MAX_SCAN);
    let at = Math.max(align8(from), this.#headerSize);
    while (at + OBJECT_HEADER <= size) {
      this.#pages.seek(at, OBJECT_HEADER);
      const type = this.#pages.bytes[this.#pages.at]!;
      const length = this.#u64(this.#pages.at + 8, true);
      // A hole, as is made ahead of what is written.
      if (type === 0 && at % HOLE === 0 && at + HOLE <= size) {
        this.#pages.seek(at, HOLE);
        if (isZero(this.#pages.bytes.subarray(this.#pages.at, this.#pages.at + HOLE))) {
          at += HOLE;
          continue;
        }
      }
      // Not written yet, or damaged: look on eight bytes further, as objects are aligned to that.
      if (type === 0 || type > ObjectType.tag || length < OBJECT_HEADER || at + length > size) {
        at += 8;
        continue;
      }
      if (type === ObjectType.entry) {
        const entry = this.#entryAt(at);
        if (entry === undefined) {
          at += 8;
          continue;
        }
        yield entry;
      }
      at += align8(length);
    }
  }

  /** Size of the object at `offset`, after checks; the pages then stand on its first `need` bytes. */
  #object(offset: number, type: number, need: number): number {
    if (offset % 8 !== 0 || offset < this.#headerSize) throw corrupt(`object offset ${hex(offset)} is not valid`, { offset });
    this.#pages.seek(offset, need);
    const { bytes, at } = this.#pages;
    if (bytes[at] !== type) throw corrupt(`object at ${hex(offset)} has type ${bytes[at]}, expected ${type}`, { offset });
    const size = this.#u64(at + 8);
    if (size < need || offset + size > this.#pages.size)
      throw corrupt(`object at ${hex(offset)} says it has ${size} bytes`, { offset });
    return size;
  }

  /** 64 bits as a number; with `lenient` too large a value is only large. */
  #u64(at: number, lenient = false): number {
    const v = this.#pages.view;
    const high = v.getUint32(at + 4, true);
    if (high > 0x1fffff && !lenient) throw corrupt(`64-bit value is too large: ${hex(v.getBigUint64(at, true))}`);
    return high * 0x100000000 + v.getUint32(at, true);
  }

  #entryAt(offset: number): JournalEntry | undefined {
    try {
      const size = this.#object(offset, ObjectType.entry, Entry.items);
      const { at, view } = this.#pages;
      const realtime = this.#u64(at + Entry.realtime);
      const monotonic = this.#u64(at + Entry.monotonic);
      const seqnum = this.#u64(at + Entry.seqnum);
      if (seqnum === 0 || realtime === 0) throw corrupt(`entry at ${hex(offset)} has no number or no time`, { offset });
      this.#entryEnd = offset + size;
      // Entries of one boot follow each other: the text of its ID is made once.
      const boot = this.#boot;
      let same = this.#bootId !== '';
      for (let i = 0; i < 4; i++) {
        const word = view.getUint32(at + Entry.bootId + i * 4, true);
        if (boot[i] !== word) {
          boot[i] = word;
          same = false;
        }
      }
      if (!same) this.#bootId = toHex(this.#pages.bytes.subarray(at + Entry.bootId, at + Entry.bootId + 16));
      return new JournalEntry(this, offset, seqnum, realtime, monotonic, this.#bootId);
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      this.#problem(explain(e));
      return undefined;
    }
  }

  xorHashOf(offset: number): bigint {
    this.#object(offset, ObjectType.entry, Entry.items);
    return this.#pages.view.getBigUint64(this.#pages.at + Entry.xorHash, true);
  }

  fieldsOf(offset: number): readonly JournalField[] {
    const size = this.#object(offset, ObjectType.entry, Entry.items);
    const width = this.#compact ? 4 : 16;
    let count = Math.floor((size - Entry.items) / width);
    if (count > MAX_FIELDS) {
      this.#problem(`entry at ${hex(offset)} says it has ${count} fields (at most ${MAX_FIELDS})`);
      count = MAX_FIELDS;
    }
    this.#pages.seek(offset, Entry.items + count * width);
    const { at, view } = this.#pages;
    const offsets = new Array<number>(count);
    for (let i = 0; i < count; i++) {
      const p = at + Entry.items + i * width;
      // What is too large for an offset is refused below like any other wrong one.
      offsets[i] = this.#compact ? view.getUint32(p, true) : view.getUint32(p + 4, true) * 0x100000000 + view.getUint32(p, true);
    }
    const out: JournalField[] = [];
    for (const o of offsets) {
      const f = this.#fieldAt(o);
      if (f !== null) out.push(f);
    }
    return out;
  }

  /** The field of a data object; null (and a problem, once) when it cannot be read. */
  #fieldAt(offset: number): JournalField | null {
    const known = this.#fields.get(offset);
    if (known !== undefined) return known;
    let field: JournalField | null = null;
    try {
      field = this.#readField(offset);
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      this.#problem(`field at ${hex(offset)}: ${explain(e)}`);
    }
    this.#cachedBytes += field === null ? 0 : field.value.length;
    if (this.#fields.size >= CACHE_FIELDS || this.#cachedBytes > CACHE_BYTES) {
      this.#fields.clear();
      this.#cachedBytes = field === null ? 0 : field.value.length;
    }
    this.#fields.set(offset, field);
    return field;
  }

  #readField(offset: number): JournalField {
    const start = this.#compact ? Data.compactPayload : Data.payload;
    const size = this.#object(offset, ObjectType.data, start);
    const length = size - start;
    if (length > MAX_FIELD_BYTES) throw unsupported(`field of ${length} bytes is larger than the limit of ${MAX_FIELD_BYTES}`);
    this.#pages.seek(offset, size);
    const { bytes, at } = this.#pages;
    if (this.#budget < 0) throw unsupported('more was unpacked than such a file can honestly hold');
    // A copy: pages go away, fields stay.
    const payload = inflatePayload(bytes.slice(at + start, at + size), bytes[at + 1]!);
    this.#budget -= payload.length;
    const equals = payload.indexOf(61);
    if (equals <= 0 || equals > 256) throw corrupt('no "NAME=" at its start');
    return new JournalField(latin1(payload.subarray(0, equals)), payload.subarray(equals + 1));
  }
}
