import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { decodeName } from '../../core/text.js';
import { aclFromVersion1 } from '../posix-acl.js';
import { Contents } from './contents.js';
import type { Inode } from './inode.js';
import { XATTR_MAGIC, XattrEntry, XattrHeader } from './structs.js';

/** Prefixes by index, as the kernel lists them; indexes that are the filesystem's own business are left out. */
const PREFIX: Readonly<Record<number, string>> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
  10: 'gnu.',
};
const INDEX_SYSTEM = 7;

/** Bytes that hold entries: `first` is where they start, values count from `base`. */
interface Region {
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly base: number;
  readonly where: string;
  readonly offset: number;
}

interface Found {
  readonly index: number;
  readonly name: Uint8Array;
  readonly region: Region;
  readonly valueOffs: number;
  readonly valueSize: number;
  readonly valueInum: number;
}

function inodeRegion(inode: Inode): Region | undefined {
  const start = inode.fixedSize;
  if (inode.raw.length <= 128 || start + 4 > inode.raw.length) return undefined;
  const v = new DataView(inode.raw.buffer, inode.raw.byteOffset, inode.raw.length);
  if (v.getUint32(start, true) !== XATTR_MAGIC) return undefined;
  const first = start + 4;
  return {
    bytes: inode.raw,
    first,
    base: first,
    where: `inode ${inode.ino}`,
    offset: inode.volume.inodeOffset(inode.ino),
  };
}

function blockRegion(inode: Inode): Region | undefined {
  const n = inode.xattrBlock;
  if (n === 0) return undefined;
  const { volume } = inode;
  volume.checkBlocks(n, 1, `xattr block of inode ${inode.ino},`);
  const bytes = volume.block(n);
  const offset = n * volume.blockSize;
  const h = XattrHeader.at(bytes);
  const where = `xattr block ${n} of inode ${inode.ino}`;
  if (h.magic !== XATTR_MAGIC) throw corrupt(`ext: ${where}: magic is ${hex(h.magic)}, expected ${hex(XATTR_MAGIC)}`, { offset });
  if (h.blocks !== 1) throw corrupt(`ext: ${where}: spans ${h.blocks} blocks, expected 1`, { offset });
  if (volume.sb.metaCsum) {
    const number = new Uint8Array(8);
    const d = new DataView(number.buffer);
    d.setUint32(0, n, true);
    d.setUint32(4, Math.floor(n / 2 ** 32), true);
    const copy = bytes.slice();
    copy.fill(0, 0x10, 0x14);
    const expected = crc32cRaw(copy, crc32cRaw(number, volume.sb.csumSeed));
    if (expected !== h.checksum)
      throw corrupt(`ext: ${where}: checksum is ${hex(h.checksum)}, expected ${hex(expected)}`, { offset });
  }
  return { bytes, first: XattrHeader.size, base: 0, where, offset };
}

function* entriesOf(region: Region): Generator<Found> {
  const { bytes, base } = region;
  const end = bytes.length;
  const bad = (what: string) => corrupt(`ext: ${region.where}: ${what}`, { offset: region.offset });
  const v = new DataView(bytes.buffer, bytes.byteOffset, end);
  // Four zero bytes end the list; a list that fills the space exactly needs none.
  for (let o = region.first; o + 4 <= end && v.getUint32(o, true) !== 0; ) {
    if (o + XattrEntry.size > end) throw bad(`attribute at ${hex(o)} goes past the end`);
    const e = XattrEntry.at(bytes, o);
    const nameEnd = o + XattrEntry.size + e.nameLen;
    if (nameEnd > end) throw bad(`attribute name of ${e.nameLen} bytes at ${hex(o)} goes past the end`);
    if (e.valueInum === 0 && e.valueSize > 0 && base + e.valueOffs + e.valueSize > end)
      throw bad(`attribute value of ${e.valueSize} bytes at ${hex(base + e.valueOffs)} goes past the end`);
    if (e.valueSize > limits.xattrBytes) throw bad(`attribute value of ${e.valueSize} bytes (at most ${limits.xattrBytes})`);
    yield {
      index: e.nameIndex,
      name: bytes.subarray(o + XattrEntry.size, nameEnd),
      region,
      valueOffs: e.valueOffs,
      valueSize: e.valueSize,
      valueInum: e.valueInum,
    };
    o = (nameEnd + 3) & ~3;
  }
}

function valueBytes(inode: Inode, f: Found): Uint8Array {
  if (f.valueInum === 0) {
    const at = f.region.base + f.valueOffs;
    return f.region.bytes.slice(at, at + f.valueSize);
  }
  const holder = inode.volume.inode(f.valueInum);
  const bad = (what: string) =>
    corrupt(`ext: inode ${f.valueInum} should hold an attribute of inode ${inode.ino}, ${what}`, { offset: f.region.offset });
  if (!holder.has('eaInode') || holder.kind !== 'file') throw bad('but is not marked so');
  if (holder.size !== f.valueSize) throw bad(`but has ${holder.size} bytes, expected ${f.valueSize}`);
  const value = new Uint8Array(f.valueSize);
  new Contents(holder).read(value, 0);
  const hash = crc32cRaw(value, inode.volume.sb.csumSeed);
  // Lustre's older form keeps the owner's number in mtime instead of a hash in atime.
  const lustre = holder.fields.mtime >>> 0 === inode.ino && holder.fields.generation === inode.fields.generation;
  if (holder.fields.atime >>> 0 !== hash && !lustre) throw bad('but its hash is wrong');
  return value;
}

/** All attributes a caller of listxattr would see, whichever of the three places holds them. */
export function attributesOf(inode: Inode): Map<string, Uint8Array> {
  const out = new Map<string, Uint8Array>();
  for (const region of [inodeRegion(inode), blockRegion(inode)]) {
    if (region === undefined) continue;
    for (const f of entriesOf(region)) {
      const prefix = PREFIX[f.index];
      if (prefix === undefined) continue;
      const name = prefix + decodeName(f.name);
      if (out.has(name)) continue;
      const value = valueBytes(inode, f);
      out.set(name, f.index === 2 || f.index === 3 ? aclFromVersion1(value) : value);
    }
  }
  return out;
}

/** The part of inline data that did not fit into i_block, and where it lies in the raw inode. */
export function inlineTail(inode: Inode): { readonly at: number; readonly length: number } | undefined {
  const region = inodeRegion(inode);
  if (region === undefined) return undefined;
  for (const f of entriesOf(region)) {
    if (f.index !== INDEX_SYSTEM || f.name.length !== 4 || decodeName(f.name) !== 'data') continue;
    if (f.valueInum !== 0)
      throw new GuestError('corrupt', `ext: inline data of inode ${inode.ino} is said to be in another inode`);
    return { at: region.base + f.valueOffs, length: f.valueSize };
  }
  return undefined;
}
