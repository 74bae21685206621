import { concatBytes } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { viewOf } from '../../core/struct.js';

/**
 * Berkeley DB hash files (db_page.h of Berkeley DB 4 and 5), as rpm's Packages was until 2020: record number → header.
 * Every page is looked at once, in order, so that neither buckets nor their chains have to be trusted.
 */
const HASH_MAGIC = 0x061561;
const Meta = { magic: 12, version: 16, pageSize: 20, encryption: 24, flags: 26, lastPage: 32 } as const;
const META_CHECKSUM = 1;
const Page = { next: 16, entries: 20, high: 22, type: 25, items: 26 } as const;
const PageType = { hashUnsorted: 2, overflow: 7, hash: 13 } as const;
const Item = { inline: 1, offPage: 3 } as const;

function littleEndian(b: Uint8Array): boolean | undefined {
  if (b.length < 512) return undefined;
  const v = viewOf(b);
  return v.getUint32(Meta.magic, true) === HASH_MAGIC ? true : v.getUint32(Meta.magic) === HASH_MAGIC ? false : undefined;
}

export const isBdbHash = (b: Uint8Array): boolean => littleEndian(b) !== undefined;

/** The header blob of each package. */
export function* bdbBlobs(b: Uint8Array, problems: string[]): Generator<Uint8Array> {
  const le = littleEndian(b);
  if (le === undefined) throw new GuestError('wrong-format', 'not a Berkeley DB hash file');
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  const pageSize = v.getUint32(Meta.pageSize, le);
  if (pageSize < 512 || pageSize > 65536 || (pageSize & (pageSize - 1)) !== 0)
    throw corrupt(`Berkeley DB page size is ${pageSize} (a power of two from 512 to 65536)`);
  if (v.getUint8(Meta.encryption) !== 0) throw unsupported('the Berkeley DB file is encrypted');
  if ((v.getUint8(Meta.flags) & META_CHECKSUM) !== 0) throw unsupported('Berkeley DB pages with checksums are not supported');
  const pages = Math.min(Math.floor(b.length / pageSize), v.getUint32(Meta.lastPage, le) + 1);
  // Records never share pages, so all of them together are no longer than the file.
  let left = b.length;
  for (let page = 1; page < pages; page++) {
    const base = page * pageSize;
    const type = v.getUint8(base + Page.type);
    if (type !== PageType.hash && type !== PageType.hashUnsorted) continue;
    const entries = v.getUint16(base + Page.entries, le);
    if (Page.items + entries * 2 > pageSize) {
      problems.push(`Berkeley DB page at ${hex(base)} says it has ${entries} items`);
      continue;
    }
    let end = pageSize;
    let key: number | undefined;
    for (let i = 0; i < entries; i++) {
      const at = v.getUint16(base + Page.items + i * 2, le);
      if (at < Page.items + entries * 2 || at >= end) {
        problems.push(`Berkeley DB item ${i} at ${hex(base + at)} is outside its page`);
        break;
      }
      const kind = v.getUint8(base + at);
      const length = end - at;
      end = at;
      if (i % 2 === 0) {
        // Record numbers are in the byte order of the machine that wrote them; only "is it 0" matters: that is rpm's counter.
        key = kind === Item.inline && length === 5 ? v.getUint32(base + at + 1, le) : undefined;
        continue;
      }
      if (key === undefined || key === 0) continue;
      try {
        if (kind === Item.inline) {
          left -= length - 1;
          yield b.subarray(base + at + 1, base + at + length);
        } else if (kind === Item.offPage && length >= 12) {
          const total = v.getUint32(base + at + 8, le);
          left -= total;
          if (left < 0) throw corrupt('Berkeley DB records are longer than the file');
          yield overflow(b, v, le, pageSize, v.getUint32(base + at + 4, le), total);
        } else throw corrupt(`Berkeley DB item of type ${kind} at ${hex(base + at)}`);
      } catch (e) {
        if (!(e instanceof GuestError) || left < 0) throw e;
        problems.push(`record ${key}: ${e.message}`);
      }
    }
  }
}

/** A record too long for its page: a chain of pages. */
function overflow(b: Uint8Array, v: DataView, le: boolean, pageSize: number, first: number, total: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let done = 0;
  for (let page = first; done < total; ) {
    const base = page * pageSize;
    if (page === 0 || base + pageSize > b.length) throw corrupt(`Berkeley DB overflow page ${page} is outside the file`);
    if (v.getUint8(base + Page.type) !== PageType.overflow) throw corrupt(`Berkeley DB page at ${hex(base)} is no overflow page`);
    const n = v.getUint16(base + Page.high, le);
    if (n === 0 || n > pageSize - Page.items || done + n > total)
      throw corrupt(`Berkeley DB overflow page at ${hex(base)} holds ${n} bytes, ${total - done} are missing`);
    parts.push(b.subarray(base + Page.items, base + Page.items + n));
    done += n;
    page = v.getUint32(base + Page.next, le);
  }
  return concatBytes(parts);
}
