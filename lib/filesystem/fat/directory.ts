import { readAt } from '../../block/source.js';
import { corrupt } from '../../core/errors.js';
import { decode437 } from './codepage.js';
import { ATTR, DELETED, DirectoryEntry, LONG_UNITS, LOWER_BASE, LOWER_EXTENSION, LongEntry } from './structs.js';
import type { Stretch, Volume } from './volume.js';

/** One file or directory as a directory names it. */
export interface Found {
  readonly name: string;
  /** The 8.3 name, by which it can be found as well. */
  readonly shortName: string;
  readonly attributes: number;
  readonly cluster: number;
  readonly size: number;
  /** Byte offset of the entry: the file's identity. */
  readonly at: number;
  readonly raw: Uint8Array;
}

/** 65,536 entries are the most a directory can have. */
export const DIRECTORY_BYTES_MAX = 65536 * 32;
const LAST_LONG = 0x40;
const LONG_MAX = 20;

/** The names of a directory, one array a stretch of clusters.  "." and ".." and volume labels are left out. */
export function* list(volume: Volume, stretches: readonly Stretch[]): Generator<Found[]> {
  const long = new LongName();
  let bytes = 0;
  for (const { at, length } of stretches) {
    bytes += length;
    if (bytes > DIRECTORY_BYTES_MAX + volume.geometry.clusterSize)
      throw corrupt(`fat: a directory of more than ${DIRECTORY_BYTES_MAX} bytes`, { offset: at });
    const block = readAt(volume.source, at, length);
    const out: Found[] = [];
    let end = false;
    for (let o = 0; o + 32 <= length; o += 32) {
      const first = block[o]!;
      if (first === 0) {
        end = true;
        break;
      }
      const attributes = block[o + 0xb]!;
      if (first === DELETED) long.clear();
      else if ((attributes & 0x3f) === ATTR.long) long.add(block.subarray(o, o + 32));
      else {
        const raw = block.slice(o, o + 32);
        const longName = long.take(raw.subarray(0, 11));
        if (attributes & ATTR.volume || first === 0x2e) continue;
        const e = DirectoryEntry.at(raw);
        const short = shortName(raw, e.lowerCase);
        const name = longName ?? short;
        if (name === '' || name.includes('/') || name.includes('\0')) {
          volume.report(`a directory entry at ${at + o} has a name that cannot be used, it is left out`);
          continue;
        }
        const high = volume.geometry.bits === 32 ? e.clusterHi * 65536 : 0;
        out.push({ name, shortName: short, attributes, cluster: high + e.clusterLo, size: e.size, at: at + o, raw });
      }
    }
    if (out.length > 0) yield out;
    if (end) return;
  }
}

function shortName(raw: Uint8Array, lowerCase: number): string {
  const base = raw.slice(0, 8);
  // 0xe5 marks what is deleted, so a name that begins with it is stored with 0x05.
  if (base[0] === 0x05) base[0] = DELETED;
  const cased = (b: Uint8Array, lower: boolean) => {
    const s = decode437(b).replace(/ +$/, '');
    return lower ? s.toLowerCase() : s;
  };
  const stem = cased(base, (lowerCase & LOWER_BASE) !== 0);
  const extension = cased(raw.subarray(8, 11), (lowerCase & LOWER_EXTENSION) !== 0);
  return extension === '' ? stem : `${stem}.${extension}`;
}

/** Collects the entries of a long name, which come last part first and must fit the short name that follows. */
class LongName {
  #parts: string[] = [];
  #expected = 0;
  #checksum = 0;

  clear(): void {
    this.#expected = 0;
    this.#parts = [];
  }

  add(raw: Uint8Array): void {
    const e = LongEntry.at(raw);
    const order = e.order & ~LAST_LONG;
    if (e.order & LAST_LONG) {
      this.clear();
      if (order < 1 || order > LONG_MAX) return;
      this.#expected = order;
      this.#checksum = e.checksum;
    }
    if (order === 0 || order !== this.#expected - this.#parts.length || e.checksum !== this.#checksum) return this.clear();
    const d = new DataView(raw.buffer, raw.byteOffset, 32);
    let s = '';
    for (const at of LONG_UNITS) {
      const unit = d.getUint16(at, true);
      if (unit === 0) break;
      s += String.fromCharCode(unit);
    }
    this.#parts.unshift(s);
  }

  /** The name, if it is whole and belongs to this short name. */
  take(short: Uint8Array): string | undefined {
    const whole = this.#expected > 0 && this.#parts.length === this.#expected && this.#checksum === checksum(short);
    const name = whole ? this.#parts.join('') : undefined;
    this.clear();
    // Half of a surrogate pair is no text; names are UTF-8 for everybody else.
    const text = name?.replace(/\p{Surrogate}/gu, '\ufffd');
    return text === undefined || text === '' || text === '.' || text === '..' || text.includes('/') ? undefined : text;
  }
}

function checksum(short: Uint8Array): number {
  let sum = 0;
  for (const c of short) sum = (((sum & 1) << 7) + (sum >> 1) + c) & 255;
  return sum;
}
