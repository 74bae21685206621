import { writeSync } from 'node:fs';
import { encodeName } from '../../lib/index.js';

/**
 * Standard output in large writes.  A reader that went away (`| head`) ends the program quietly, as it ends a C program;
 * a pipe that is full is waited for.
 */
class Output {
  readonly #parts: Uint8Array[] = [];
  #pending = 0;

  write(data: string | Uint8Array): void {
    const b = typeof data === 'string' ? encodeName(data) : data;
    if (b.length === 0) return;
    this.#parts.push(b);
    this.#pending += b.length;
    if (this.#pending >= 65536) this.flush();
  }
  line(text = ''): void {
    this.write(`${text}\n`);
  }
  flush(): void {
    if (this.#pending === 0) return;
    const all = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts.length = 0;
    this.#pending = 0;
    writeAll(1, all);
  }
}
export const out = new Output();

/** Writes all of `b` to an inherited descriptor, which may be a non-blocking pipe or terminal. */
export function writeAll(fd: number, b: Uint8Array): void {
  for (let done = 0; done < b.length; ) {
    try {
      done += writeSync(fd, b, done, b.length - done);
    } catch (e) {
      const code = (e as NodeJS.ErrnoException).code;
      if (code === 'EPIPE') process.exit(0);
      if (code !== 'EAGAIN') throw e;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}

export const warn = (text: string): void => writeAll(2, encodeName(`${text}\n`));

/** One value of a CSV row (RFC 4180). */
export const csvField = (v: string): string => (/[",\n\r]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v);
export const csvRow = (fields: readonly string[]): string => fields.map(csvField).join(',');

export function columnWidths(rows: readonly (readonly string[])[]): readonly number[] {
  const widths: number[] = [];
  for (const r of rows) for (const [i, v] of r.entries()) widths[i] = Math.max(widths[i] ?? 0, v.length);
  return widths;
}

/** Columns padded to their widest value, two spaces apart unless said; the last one is not padded. */
export function columns(
  rows: readonly (readonly string[])[],
  options: { readonly right?: readonly number[]; readonly gap?: string } = {},
): string[] {
  const widths = columnWidths(rows);
  return rows.map((r) =>
    r
      .map((v, i) => (options.right?.includes(i) ? v.padStart(widths[i]!) : i === r.length - 1 ? v : v.padEnd(widths[i]!)))
      .join(options.gap ?? '  ')
      .trimEnd(),
  );
}

/** JSON for --json: BigInt as number where it fits, bytes as base64. */
export function json(value: unknown): string {
  return JSON.stringify(
    value,
    (_, v: unknown) =>
      typeof v === 'bigint'
        ? v <= BigInt(Number.MAX_SAFE_INTEGER) && v >= -BigInt(Number.MAX_SAFE_INTEGER)
          ? Number(v)
          : v.toString()
        : v instanceof Uint8Array
          ? Buffer.from(v).toString('base64')
          : v,
    2,
  );
}

/** Control characters of a guest's strings must not reach a terminal as they are. */
export const printable = (s: string): string =>
  s.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
