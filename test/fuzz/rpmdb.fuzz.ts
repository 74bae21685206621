import { rpmPackages } from '../../lib/artifact/rpm/index.js';
import { GuestError } from '../../lib/core/errors.js';
import { mutations } from './bytes.js';

/** An rpm header with the tags that we read: name, version, release, epoch, a translated summary. */
export function header(name: string, filler = 0): Buffer {
  const data: Buffer[] = [];
  const index: Buffer[] = [];
  let length = 0;
  const add = (tag: number, type: number, count: number, bytes: Buffer, align = 1) => {
    const pad = (align - (length % align)) % align;
    data.push(Buffer.alloc(pad), bytes);
    const entry = Buffer.alloc(16);
    for (const [i, v] of [tag, type, length + pad, count].entries()) entry.writeUInt32BE(v, i * 4);
    index.push(entry);
    length += pad + bytes.length;
  };
  const string = (s: string) => Buffer.from(`${s}\0`);
  const number = (n: number) => {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(n);
    return b;
  };
  add(1000, 6, 1, string(name));
  add(1001, 6, 1, string('1.2'));
  add(1002, 6, 1, string('3'));
  add(1003, 4, 1, number(7), 4);
  add(1004, 9, 2, Buffer.concat([string('summary'), string('Zusammenfassung')]));
  add(1005, 6, 1, string('x'.repeat(filler)));
  const counts = Buffer.concat([number(index.length), number(length)]);
  return Buffer.concat([counts, ...index, ...data]);
}

/** SQLite, the format's own words: a schema page, a table of one interior page with two leaves, an overflow chain. */
function sqlite(blobs: readonly Buffer[]): Uint8Array {
  const PAGE = 1024;
  const pages: Buffer[] = [];
  const page = () => {
    const p = Buffer.alloc(PAGE);
    pages.push(p);
    return p;
  };
  const varint = (n: number): number[] => (n < 128 ? [n] : [...varint(Math.floor(n / 128)).map((b) => b | 128), n & 127]);
  const leaf = (p: Buffer, base: number, cells: readonly Buffer[]) => {
    let end = PAGE;
    p[base] = 13;
    p.writeUInt16BE(cells.length, base + 3);
    for (const [i, c] of cells.entries()) {
      end -= c.length;
      c.copy(p, end);
      p.writeUInt16BE(end, base + 8 + i * 2);
    }
    p.writeUInt16BE(end, base + 5);
  };
  const cell = (id: number, payload: Buffer): Buffer => {
    const head = Buffer.from([...varint(payload.length), ...varint(id)]);
    const most = PAGE - 35;
    if (payload.length <= most) return Buffer.concat([head, payload]);
    const least = Math.floor(((PAGE - 12) * 32) / 255) - 23;
    const fit = least + ((payload.length - least) % (PAGE - 4));
    const local = fit <= most ? fit : least;
    const first = pages.length + 1;
    for (let at = local; at < payload.length; at += PAGE - 4) {
      const p = page();
      payload.copy(p, 4, at, at + PAGE - 4);
      if (at + PAGE - 4 < payload.length) p.writeUInt32BE(pages.length + 1, 0);
    }
    const pointer = Buffer.alloc(4);
    pointer.writeUInt32BE(first);
    return Buffer.concat([head, payload.subarray(0, local), pointer]);
  };
  const record = (types: readonly number[], body: Buffer): Buffer => {
    const header = types.flatMap(varint);
    return Buffer.concat([Buffer.from([header.length + 1, ...header]), body]);
  };
  const schema = page();
  const root = page();
  const sql = 'CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob BLOB)';
  const words = ['table', 'Packages', 'Packages'];
  const row = record(
    [...words.map((w) => 13 + 2 * w.length), 1, 13 + 2 * sql.length],
    Buffer.concat([Buffer.from(words.join('')), Buffer.from([2]), Buffer.from(sql)]),
  );
  schema.write('SQLite format 3\0');
  schema.writeUInt16BE(PAGE, 16);
  schema[21] = 64;
  schema[22] = 32;
  schema[23] = 32;
  schema.writeUInt32BE(1, 56);
  leaf(schema, 100, [cell(1, row)]);
  const leaves = blobs.map((b, i) => {
    const c = cell(i + 1, record([0, 12 + 2 * b.length], b));
    leaf(page(), 0, [c]);
    return pages.length;
  });
  root[0] = 5;
  root.writeUInt16BE(leaves.length - 1, 3);
  root.writeUInt32BE(leaves.at(-1)!, 8);
  for (const [i, l] of leaves.slice(0, -1).entries()) {
    const at = PAGE - (i + 1) * 5;
    root.writeUInt32BE(l, at);
    root[at + 4] = i + 1;
    root.writeUInt16BE(at, 12 + i * 2);
  }
  return Buffer.concat(pages);
}

/** A Berkeley DB hash of one bucket page and an overflow chain a header. */
function bdb(blobs: readonly Buffer[], le: boolean): Uint8Array {
  const PAGE = 512;
  const u32 = (b: Buffer, v: number, at: number) => (le ? b.writeUInt32LE(v, at) : b.writeUInt32BE(v, at));
  const u16 = (b: Buffer, v: number, at: number) => (le ? b.writeUInt16LE(v, at) : b.writeUInt16BE(v, at));
  const meta = Buffer.alloc(PAGE);
  const bucket = Buffer.alloc(PAGE);
  const pages = [meta, bucket];
  u32(meta, 0x061561, 12);
  u32(meta, 9, 16);
  u32(meta, PAGE, 20);
  meta[25] = 8;
  bucket[25] = 13;
  u16(bucket, blobs.length * 2, 20);
  let end = PAGE;
  for (const [i, blob] of blobs.entries()) {
    end -= 5;
    bucket[end] = 1;
    u32(bucket, i + 1, end + 1);
    u16(bucket, end, 26 + i * 4);
    end -= 12;
    bucket[end] = 3;
    u32(bucket, pages.length, end + 4);
    u32(bucket, blob.length, end + 8);
    u16(bucket, end, 28 + i * 4);
    for (let at = 0; at < blob.length; at += PAGE - 26) {
      const p = Buffer.alloc(PAGE);
      p[25] = 7;
      const n = blob.copy(p, 26, at, at + PAGE - 26);
      u16(p, n, 22);
      if (at + n < blob.length) u32(p, pages.length + 1, 16);
      pages.push(p);
    }
  }
  u32(meta, pages.length - 1, 32);
  return Buffer.concat(pages);
}

function ndb(blobs: readonly Buffer[]): Uint8Array {
  const head = Buffer.alloc(4096);
  head.write('RpmP');
  head.writeUInt32LE(1, 12);
  for (let at = 32; at < 4096; at += 16) head.write('Slot', at);
  const parts = [head];
  let block = 256;
  for (const [i, blob] of blobs.entries()) {
    const blocks = Math.ceil((blob.length + 28) / 16);
    const b = Buffer.alloc(blocks * 16);
    b.write('BlbS');
    b.writeUInt32LE(i + 1, 4);
    b.writeUInt32LE(blob.length, 12);
    blob.copy(b, 16);
    b.write('BlbE', b.length - 4);
    for (const [k, v] of [i + 1, block, blocks].entries()) head.writeUInt32LE(v, 32 + i * 16 + 4 + k * 4);
    parts.push(b);
    block += blocks;
  }
  return Buffer.concat(parts);
}

export function seeds(): Uint8Array[] {
  const blobs = [header('first'), header('second', 3000), header('third', 900)];
  return [sqlite(blobs), ndb(blobs), bdb(blobs, true), bdb(blobs, false)];
}

/** Packages and problems, or a GuestError: nothing else, and never for long. */
export function fuzz(iterations: number, seed: number): void {
  for (const bytes of mutations(
    seeds().map((b) => Uint8Array.from(b)),
    iterations,
    seed,
  )) {
    const start = performance.now();
    const problems: string[] = [];
    try {
      const found = rpmPackages(bytes, { problems });
      if (found.length > bytes.length) throw new Error(`${found.length} packages in ${bytes.length} bytes`);
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
    }
    if (performance.now() - start > 3000) throw new Error(`took ${performance.now() - start} ms`);
  }
}
