import { JournalFile, journalJson, mergeEntries } from '../../lib/artifact/journal/index.js';
import { GuestError } from '../../lib/core/errors.js';
import { mutations } from './bytes.js';

/** "MESSAGE=" and 300 times "z", as the zstd program packs it. */
const ZSTD = Buffer.from('KLUv/WA0AIUAAEhNRVNTQUdFPXoBACgqOAI=', 'base64');

/** A journal with entries in two arrays and plain, zstd and LZ4 fields, made from the format's own words. */
export function journal(compact: boolean): Uint8Array {
  const HEADER = 272;
  const b = Buffer.alloc(8192);
  let end = HEADER;
  const object = (type: number, flags: number, size: number): number => {
    const at = end;
    b[at] = type;
    b[at + 1] = flags;
    b.writeUInt32LE(size, at + 8);
    end += Math.ceil(size / 8) * 8;
    return at;
  };
  const start = compact ? 72 : 64;
  const data = (payload: Uint8Array, flags = 0): number => {
    const at = object(1, flags, start + payload.length);
    b.set(payload, at + start);
    return at;
  };
  const width = compact ? 4 : 16;
  const entry = (n: number, fields: readonly number[]): number => {
    const at = object(3, 0, 64 + fields.length * width);
    b.writeUInt32LE(n, at + 16);
    b.writeUInt32LE(1000 + n, at + 24);
    b.writeUInt32LE(n, at + 32);
    b.fill(0x11, at + 40, at + 56);
    for (const [i, f] of fields.entries()) b.writeUInt32LE(f, at + 64 + i * width);
    return at;
  };
  const array = (entries: readonly number[], room: number): number => {
    const w = compact ? 4 : 8;
    const at = object(6, 0, 24 + room * w);
    for (const [i, e] of entries.entries()) b.writeUInt32LE(e, at + 24 + i * w);
    return at;
  };
  b.write('LPKSHHRH');
  b.writeUInt32LE(14 | (compact ? 16 : 0), 12);
  b.fill(0x22, 72, 88);
  b.writeUInt32LE(HEADER, 88);
  const common = data(Buffer.from('_HOSTNAME=guest'));
  const packed = data(ZSTD, 4);
  // 20 bytes: six literals, then a match of 14 at distance 1.
  const lz4 = Buffer.from([20, 0, 0, 0, 0, 0, 0, 0, 0x6a, 77, 61, 97, 97, 97, 97, 1, 0]);
  const lz = data(lz4, 2);
  const entries = [1, 2, 3].map((n) => entry(n, [common, packed, data(Buffer.from(`MESSAGE=number ${n}`))]));
  const first = array(entries, 4);
  const more = [4, 5].map((n) => entry(n, [common, lz, data(Buffer.from(`BINARY=\x00\xff${n}`, 'latin1'))]));
  const second = array(more, 8);
  b.writeUInt32LE(second, first + 16);
  b.writeUInt32LE(first, 176);
  b.writeUInt32LE(entries.length + more.length, 152);
  b.writeUInt32LE(second, 136);
  b.writeUInt32LE(end - HEADER, 96);
  return Uint8Array.from(b.subarray(0, end));
}

const file = (bytes: Uint8Array) => ({
  size: bytes.length,
  read(into: Uint8Array, offset: number) {
    const part = bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  },
});

/** Entries and problems, or a GuestError for a file that is none; no more entries than fit, and never for long. */
export function fuzz(iterations: number, seed: number): void {
  const seeds = [journal(false), journal(true)];
  const whole = new JournalFile(file(seeds[0]!));
  for (const bytes of mutations(seeds, iterations, seed)) {
    const began = performance.now();
    try {
      const journals = [new JournalFile(file(bytes)), whole];
      let entries = 0;
      for (const e of mergeEntries(journals)) {
        JSON.stringify(journalJson(e));
        if (++entries > bytes.length) throw new Error(`${entries} entries in ${bytes.length} bytes`);
      }
      if (journals[0]!.problems.length > 101) throw new Error(`${journals[0]!.problems.length} problems`);
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
    }
    if (performance.now() - began > 3000) throw new Error(`took ${performance.now() - began} ms`);
  }
}
