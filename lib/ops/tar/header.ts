import { encodeName } from '../../core/text.js';

/**
 * POSIX.1-2001 (pax) tar headers.  Values that do not fit the ustar header (long or non-ASCII names, large ids and sizes,
 * times with fractions or before 1970, extended attributes) go into an extended header, as bytes, so that nothing is lost.
 */
export interface TarEntry {
  /** Without a leading slash; directories end in one. */
  readonly name: string;
  readonly type: '0' | '1' | '2' | '3' | '4' | '5' | '6';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes that follow the header. */
  readonly size: number;
  readonly mtime: { readonly sec: number; readonly nsec: number };
  readonly atime?: { readonly sec: number; readonly nsec: number };
  readonly linkName?: string;
  readonly rdev?: { readonly major: number; readonly minor: number };
  /** Further pax records: extended attributes, ACLs, sparse maps. */
  readonly records?: readonly (readonly [key: string, value: Uint8Array])[];
}

export const BLOCK = 512;
const OCTAL_11 = 0o77777777777;
const OCTAL_7 = 0o7777777;

/** Zero bytes that fill the last block of `size` bytes. */
export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/** The end of an archive: two zero blocks, then zeroes to a multiple of 10240 bytes, as tar writes by default. */
export const endOfArchive = (written: number): Uint8Array =>
  new Uint8Array(2 * BLOCK + ((10240 - ((written + 2 * BLOCK) % 10240)) % 10240));

function time(t: { readonly sec: number; readonly nsec: number }): string {
  if (t.nsec === 0) return String(t.sec);
  // Before 1970 the fraction counts towards zero in decimal notation, upwards in the pair.
  const negative = t.sec < 0;
  const sec = negative ? t.sec + 1 : t.sec;
  const nsec = negative ? 1e9 - t.nsec : t.nsec;
  return `${negative ? '-' : ''}${Math.abs(sec)}.${String(nsec).padStart(9, '0').replace(/0+$/, '')}`;
}

/** The header block or blocks of one entry. */
export function encodeHeader(e: TarEntry): Uint8Array {
  const name = encodeName(e.name);
  const link = encodeName(e.linkName ?? '');
  const records: [string, Uint8Array][] = [];
  const text = (key: string, value: string | number) => records.push([key, encodeName(String(value))]);
  const split = splitName(name);
  if (split === undefined) records.push(['path', name]);
  if (link.length > 100 || !ascii(link)) records.push(['linkpath', link]);
  if (e.uid > OCTAL_7) text('uid', e.uid);
  if (e.gid > OCTAL_7) text('gid', e.gid);
  if (e.size > OCTAL_11) text('size', e.size);
  if (e.mtime.nsec !== 0 || e.mtime.sec < 0 || e.mtime.sec > OCTAL_11) text('mtime', time(e.mtime));
  if (e.atime !== undefined) text('atime', time(e.atime));
  for (const r of e.records ?? []) records.push([r[0], r[1]]);
  const header = ustar(e, split ?? { prefix: new Uint8Array(0), name: name.subarray(0, 100) }, link.subarray(0, 100));
  if (records.length === 0) return header;
  const body = paxBody(records);
  const extended = ustar(
    { name: '', type: 'x' as '0', mode: 0o644, uid: 0, gid: 0, size: body.length, mtime: { sec: 0, nsec: 0 } },
    { prefix: new Uint8Array(0), name: encodeName('././@PaxHeader') },
    new Uint8Array(0),
  );
  const all = new Uint8Array(extended.length + body.length + padding(body.length) + header.length);
  all.set(extended);
  all.set(body, BLOCK);
  all.set(header, all.length - BLOCK);
  return all;
}

const ascii = (b: Uint8Array) => b.every((c) => c < 0x80);

/** Name into the 155-byte prefix and the 100-byte name at a slash; undefined where it needs a pax record. */
function splitName(name: Uint8Array): { prefix: Uint8Array; name: Uint8Array } | undefined {
  if (!ascii(name)) return undefined;
  if (name.length <= 100) return { prefix: new Uint8Array(0), name };
  for (let i = Math.min(155, name.length - 2); i > 0 && name.length - i - 1 <= 100; i--)
    if (name[i] === 0x2f) return { prefix: name.subarray(0, i), name: name.subarray(i + 1) };
  return undefined;
}

/** "LENGTH KEY=VALUE\n" for each record; the length counts itself. */
function paxBody(records: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [key, value] of records) {
    const k = encodeName(key);
    const rest = k.length + value.length + 3;
    let length = rest + String(rest).length;
    if (rest + String(length).length !== length) length = rest + String(length).length;
    parts.push(encodeName(`${length} `), k, encodeName('='), value, encodeName('\n'));
  }
  return new Uint8Array(Buffer.concat(parts));
}

function ustar(e: TarEntry, n: { prefix: Uint8Array; name: Uint8Array }, link: Uint8Array): Uint8Array {
  const b = new Uint8Array(BLOCK);
  const octal = (at: number, width: number, v: number) =>
    b.set(
      encodeName(
        v
          .toString(8)
          .padStart(width - 1, '0')
          .slice(-(width - 1)),
      ),
      at,
    );
  b.set(n.name, 0);
  octal(100, 8, e.mode & 0o7777);
  octal(108, 8, Math.min(e.uid, OCTAL_7));
  octal(116, 8, Math.min(e.gid, OCTAL_7));
  octal(124, 12, Math.min(e.size, OCTAL_11));
  octal(136, 12, Math.min(Math.max(e.mtime.sec, 0), OCTAL_11));
  b[156] = e.type.charCodeAt(0);
  b.set(link, 157);
  b.set(encodeName('ustar\x0000'), 257);
  if (e.rdev !== undefined) {
    octal(329, 8, e.rdev.major);
    octal(337, 8, e.rdev.minor);
  }
  b.set(n.prefix, 345);
  b.fill(0x20, 148, 156);
  let sum = 0;
  for (const c of b) sum += c;
  b.set(encodeName(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  return b;
}
