import { corrupt, GuestError, hex } from '../../core/errors.js';
import { struct, u32, viewOf } from '../../core/struct.js';

/**
 * rpm's "ndb" Packages.db: pages of 16-byte slots (the first two hold the header), each saying where the blob of one
 * package lies, counted in blocks of 16 bytes.
 */
const Header = struct('ndb header', 'le', 32, { magic: u32(0), version: u32(4), generation: u32(8), slotPages: u32(12) });
const Slot = struct('ndb slot', 'le', 16, { magic: u32(0), index: u32(4), offset: u32(8), count: u32(12) });
const Blob = struct('ndb blob', 'le', 16, { magic: u32(0), index: u32(4), generation: u32(8), length: u32(12) });

const word = (s: string) => viewOf(Buffer.from(s)).getUint32(0, true);
const HEADER_MAGIC = word('RpmP');
const SLOT_MAGIC = word('Slot');
const BLOB_MAGIC = word('BlbS');
const TAIL_MAGIC = word('BlbE');
const PAGE = 4096;
const BLOCK = 16;
/** Adler-32, length and magic behind the data. */
const TAIL = 12;

export const isNdb = (b: Uint8Array): boolean => b.length >= Header.size && viewOf(b).getUint32(0, true) === HEADER_MAGIC;

/** The header blob of each package; a slot that leads nowhere is reported and left out. */
export function* ndbBlobs(b: Uint8Array, problems: string[]): Generator<Uint8Array> {
  const h = Header.at(b);
  if (h.magic !== HEADER_MAGIC)
    throw new GuestError('wrong-format', `ndb magic is ${hex(h.magic)}, expected ${hex(HEADER_MAGIC)}`);
  if (h.version !== 0) throw new GuestError('unsupported', `ndb version ${h.version} is not supported`);
  const slots = h.slotPages * PAGE;
  if (h.slotPages === 0 || slots > b.length) throw corrupt(`ndb says it has ${h.slotPages} slot pages in ${b.length} bytes`);
  // Blobs never overlap, so all of them together are no longer than the file.
  let left = b.length;
  for (let at = Header.size; at + Slot.size <= slots; at += Slot.size) {
    const slot = Slot.at(b, at);
    if (slot.magic !== SLOT_MAGIC) {
      problems.push(`ndb slot at ${hex(at)} has magic ${hex(slot.magic)}`);
      continue;
    }
    if (slot.offset === 0) continue;
    const start = slot.offset * BLOCK;
    const problem = (what: string) => problems.push(`ndb package ${slot.index}: ${what} at ${hex(start)}`);
    if (start + Blob.size > b.length) {
      problem('blob is past the end of the file');
      continue;
    }
    const blob = Blob.at(b, start);
    const length = blob.length;
    if (blob.magic !== BLOB_MAGIC || blob.index !== slot.index) problem('no blob of this package');
    else if (Blob.size + length + TAIL > slot.count * BLOCK || start + slot.count * BLOCK > b.length)
      problem(`blob of ${length} bytes is longer than its space`);
    else if (viewOf(b).getUint32(start + slot.count * BLOCK - 4, true) !== TAIL_MAGIC) problem('blob without its end');
    else if ((left -= length) < 0) throw corrupt('ndb blobs overlap');
    else yield b.subarray(start + Blob.size, start + Blob.size + length);
  }
}
