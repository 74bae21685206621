import { corrupt, explain, GuestError, hex, unsupported } from '../../core/errors.js';
import { viewOf } from '../../core/struct.js';
import { record, type SqliteValue, type TextEncoding, varint } from './record.js';
import { isPageSize, readWal, type Wal } from './wal.js';

/** sqlite.org/fileformat2.html: the database header and the b-tree page header. */
const MAGIC = 'SQLite format 3\0';
const Header = { pageSize: 16, reserved: 20, encoding: 56, size: 100 } as const;
const PageType = { interiorTable: 5, leafTable: 13 } as const;
const MAX_DEPTH = 20;

export interface SqliteRow {
  readonly id: number;
  readonly values: readonly SqliteValue[];
}

export const isSqlite = (b: Uint8Array): boolean =>
  b.length >= Header.size && Buffer.from(b.buffer, b.byteOffset, 16).toString('latin1') === MAGIC;

/** Reads the tables of an SQLite file, with what its write-ahead log has committed.  No SQL: all rows of a table, in order. */
export class SqliteDatabase {
  readonly problems: readonly string[];
  readonly #file: Uint8Array;
  readonly #wal: (Wal & { readonly bytes: Uint8Array }) | undefined;
  readonly #pageSize: number;
  readonly #usable: number;
  readonly #encoding: TextEncoding;
  readonly #pages: number;

  constructor(file: Uint8Array, wal?: Uint8Array) {
    const problems: string[] = [];
    const log = wal === undefined || wal.length === 0 ? undefined : readWal(wal);
    if (wal !== undefined && wal.length > 0 && log === undefined)
      problems.push('the write-ahead log is not valid and is left out');
    const used = log !== undefined && log.pages > 0 ? { ...log, bytes: wal! } : undefined;
    this.#file = file;
    const first = used?.pageAt.get(1);
    const header = first === undefined ? file : used!.bytes.subarray(first, first + used!.pageSize);
    if (!isSqlite(header)) throw new GuestError('wrong-format', 'not an SQLite database');
    const v = viewOf(header);
    const size = v.getUint16(Header.pageSize);
    this.#pageSize = size === 1 ? 65536 : size;
    if (!isPageSize(this.#pageSize)) throw corrupt(`SQLite page size is ${size}`);
    this.#usable = this.#pageSize - header[Header.reserved]!;
    if (this.#usable < 480) throw corrupt(`SQLite pages of ${this.#pageSize} bytes reserve ${header[Header.reserved]}`);
    const encoding = v.getUint32(Header.encoding);
    // 0: nothing was ever stored.
    if (encoding > 3) throw corrupt(`SQLite text encoding is ${encoding}`);
    this.#encoding = (['utf8', 'utf8', 'utf16le', 'utf16be'] as const)[encoding]!;
    if (used !== undefined && used.pageSize !== this.#pageSize) {
      problems.push(`the write-ahead log has pages of ${used.pageSize} bytes, the database of ${this.#pageSize}; it is left out`);
      this.#wal = undefined;
    } else this.#wal = used;
    this.#pages = Math.max(Math.floor(file.length / this.#pageSize), this.#wal?.pages ?? 0);
    this.problems = problems;
  }

  /** Rows of sqlite_schema that are tables: name → root page. */
  tables(problems: string[] = []): ReadonlyMap<string, number> {
    const out = new Map<string, number>();
    for (const { values } of this.#walk(1, problems)) {
      const [type, name, , root] = values;
      if (type === 'table' && typeof name === 'string' && typeof root === 'number') out.set(name, root);
    }
    return out;
  }

  /** All rows of a table in the order of their ids.  Subtrees that cannot be read are left out and named in `problems`. */
  *rows(table: string, problems: string[]): Generator<SqliteRow> {
    const root = this.tables(problems).get(table);
    if (root === undefined) throw new GuestError('not-found', `the SQLite database has no table "${table}"`);
    yield* this.#walk(root, problems);
  }

  #page(number: number): Uint8Array {
    const inLog = this.#wal?.pageAt.get(number);
    if (inLog !== undefined) return this.#wal!.bytes.subarray(inLog, inLog + this.#pageSize);
    const at = (number - 1) * this.#pageSize;
    if (number < 1 || number > this.#pages || at + this.#pageSize > this.#file.length)
      throw corrupt(`SQLite page ${number} is past the end of the file (${this.#pages} pages)`);
    return this.#file.subarray(at, at + this.#pageSize);
  }

  *#walk(root: number, problems: string[]): Generator<SqliteRow> {
    // A page belongs to one tree once; all payloads together are no longer than all pages.
    const seen = new Set<number>();
    const budget = { left: this.#pages * this.#pageSize };
    const stack: { page: number; depth: number }[] = [{ page: root, depth: 0 }];
    while (stack.length > 0) {
      const { page, depth } = stack.pop()!;
      const base = page === 1 ? Header.size : 0;
      let b: Uint8Array;
      try {
        if (seen.has(page)) throw corrupt(`SQLite page ${page} is used twice`);
        if (depth > MAX_DEPTH) throw corrupt(`SQLite tree is deeper than ${MAX_DEPTH}`);
        seen.add(page);
        b = this.#page(page);
        const type = b[base]!;
        const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
        const cells = v.getUint16(base + 3);
        const pointers = base + (type === PageType.interiorTable ? 12 : 8);
        if (type === PageType.interiorTable) {
          if (pointers + cells * 2 > this.#usable) throw corrupt(`SQLite page ${page} says it has ${cells} cells`);
          stack.push({ page: v.getUint32(base + 8), depth: depth + 1 });
          for (let i = cells - 1; i >= 0; i--) {
            const at = v.getUint16(pointers + i * 2);
            if (at + 4 > this.#usable) throw corrupt(`SQLite cell ${i} of page ${page} is outside it`);
            stack.push({ page: v.getUint32(at), depth: depth + 1 });
          }
          continue;
        }
        if (type !== PageType.leafTable) {
          if (type === 2 || type === 10) throw unsupported(`SQLite page ${page} is of a table WITHOUT ROWID`);
          throw corrupt(`SQLite page ${page} has type ${type} at ${hex(base)}`);
        }
        if (pointers + cells * 2 > this.#usable) throw corrupt(`SQLite page ${page} says it has ${cells} cells`);
      } catch (e) {
        note(e, problems);
        continue;
      }
      const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
      const cells = v.getUint16(base + 3);
      for (let i = 0; i < cells; i++) {
        let row: SqliteRow;
        try {
          row = this.#leafCell(b, v.getUint16(base + 8 + i * 2), budget);
        } catch (e) {
          if (budget.left < 0) throw e;
          note(e, problems);
          continue;
        }
        yield row;
      }
    }
  }

  #leafCell(b: Uint8Array, at: number, budget: { left: number }): SqliteRow {
    const n = { value: 0 };
    at = varint(b, at, n);
    const length = n.value;
    at = varint(b, at, n);
    const id = n.value;
    budget.left -= length;
    if (budget.left < 0) throw corrupt('SQLite rows are longer than the file');
    const most = this.#usable - 35;
    let local = length;
    if (length > most) {
      const least = Math.floor(((this.#usable - 12) * 32) / 255) - 23;
      const fit = least + ((length - least) % (this.#usable - 4));
      local = fit <= most ? fit : least;
    }
    if (at + local + (local < length ? 4 : 0) > this.#usable) throw corrupt(`SQLite row ${id} leaves its page`);
    if (local === length) return { id, values: record(b.subarray(at, at + local), this.#encoding) };
    const payload = new Uint8Array(length);
    payload.set(b.subarray(at, at + local));
    let next = new DataView(b.buffer, b.byteOffset, b.byteLength).getUint32(at + local);
    for (let done = local; done < length; ) {
      const p = this.#page(next);
      const part = Math.min(length - done, this.#usable - 4);
      payload.set(p.subarray(4, 4 + part), done);
      done += part;
      next = new DataView(p.buffer, p.byteOffset, 4).getUint32(0);
    }
    return { id, values: record(payload, this.#encoding) };
  }
}

function note(e: unknown, problems: string[]): void {
  if (!(e instanceof GuestError)) throw e;
  problems.push(explain(e));
}
