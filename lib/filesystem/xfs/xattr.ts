import { corrupt, type GuestError, hex } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import { aclXattr } from '../posix-acl.js';
import { type HashLeaf, HashTree } from './dabtree.js';
import { type ExtentMap, forkBlocks, mapOf } from './extents.js';
import type { Inode } from './inode.js';
import { ATTR, ATTR_LEAF_MAGIC, ATTR_REMOTE_MAGIC, FORMAT, REMOTE_HEADER, REMOTE_LAYOUT } from './structs.js';

/** XATTR_SIZE_MAX. */
const VALUE_MAX = 65536;
/** Bytes of all values of one file: leaves of a hostile image can name one value many times. */
const TOTAL_MAX = 64 << 20;

const ACLS: Readonly<Record<string, string>> = {
  SGI_ACL_FILE: 'system.posix_acl_access',
  SGI_ACL_DEFAULT: 'system.posix_acl_default',
};

/** All attributes a caller of listxattr would see; ACLs under their system names only. */
export function attributesOf(inode: Inode): Map<string, Uint8Array> {
  const out = new Map<string, Uint8Array>();
  const fork = inode.attributeFork;
  if (fork === undefined) return out;
  let total = 0;
  const add = (flags: number, name: Uint8Array, value: () => Uint8Array) => {
    if (flags & (ATTR.incomplete | ATTR.parent)) return;
    const text = decodeName(name);
    const acl = flags & ATTR.root ? ACLS[text] : undefined;
    const prefix = flags & ATTR.root ? 'trusted.' : flags & ATTR.secure ? 'security.' : 'user.';
    const bytes = value();
    if ((total += bytes.length) > TOTAL_MAX) throw inode.corrupt(`its attributes have more than ${TOTAL_MAX} bytes`);
    out.set(acl ?? prefix + text, acl === undefined ? bytes : kernelAcl(inode, bytes));
  };
  if (fork.format === FORMAT.local) scanShort(inode, fork.bytes, add);
  else if (fork.format !== FORMAT.extents || fork.extents > 0) scanTree(inode, mapOf(inode, fork), add);
  return out;
}

type Add = (flags: number, name: Uint8Array, value: () => Uint8Array) => void;

function scanShort(inode: Inode, b: Uint8Array, add: Add): void {
  const bad = (problem: string) => inode.corrupt(`short attributes: ${problem}`);
  if (b.length < 4) throw bad(`no room (${b.length} bytes)`);
  const size = b[0]! * 256 + b[1]!;
  if (size > b.length) throw bad(`${size} bytes, the inode has room for ${b.length}`);
  for (let i = 0, o = 4; i < b[2]!; i++) {
    const name = o + 3;
    const value = o + 3 <= size ? name + b[o]! : size + 1;
    const end = value <= size ? value + b[o + 1]! : size + 1;
    if (end > size) throw bad(`attribute ${i} at ${o} goes past the end (${size} bytes)`);
    add(b[o + 2]!, b.subarray(name, value), () => b.slice(value, end));
    o = end;
  }
}

function scanTree(inode: Inode, map: ExtentMap, add: Add): void {
  const { volume } = inode;
  const tree = new HashTree(inode, map, 0, volume.blockSize, [ATTR_LEAF_MAGIC[volume.form]], 'attribute block');
  const first = tree.leafFor(0);
  if (first !== undefined) for (const leaf of tree.from(first)) scanLeaf(inode, map, leaf, add);
}

function scanLeaf(inode: Inode, map: ExtentMap, leaf: HashLeaf, add: Add): void {
  const { bytes, view, at } = leaf;
  const bad = (problem: string) => corrupt(`xfs: attributes of inode ${inode.ino} at ${hex(at)}: ${problem}`, { offset: at });
  const entries = inode.volume.sb.v5 ? 80 : 32;
  const end = bytes.length;
  if (entries + leaf.count * 8 > end) throw bad(`${leaf.count} attributes do not fit`);
  for (let i = 0, e = entries; i < leaf.count; i++, e += 8) {
    const o = view.getUint16(e + 4);
    const flags = bytes[e + 6]!;
    const local = (flags & ATTR.local) !== 0;
    const nameAt = o + (local ? 3 : 9);
    if (o < entries + leaf.count * 8 || nameAt > end) throw bad(`attribute ${i} at ${hex(o)} is out of place`);
    const nameEnd = nameAt + bytes[nameAt - 1]!;
    const length = local ? view.getUint16(o) : view.getUint32(o + 4);
    if (nameEnd + (local ? length : 0) > end) throw bad(`attribute ${i} at ${hex(o)} goes past the end`);
    if (length > VALUE_MAX) throw bad(`attribute ${i} has ${length} bytes, the most is ${VALUE_MAX}`);
    add(flags, bytes.subarray(nameAt, nameEnd), () =>
      local ? bytes.slice(nameEnd, nameEnd + length) : remoteValue(inode, map, view.getUint32(o), length, bad),
    );
  }
}

/** A value in blocks of its own; in version 5 each block has a header. */
function remoteValue(
  inode: Inode,
  map: ExtentMap,
  block: number,
  length: number,
  bad: (problem: string) => GuestError,
): Uint8Array {
  const { volume } = inode;
  const { blockSize } = volume;
  const header = volume.sb.v5 ? REMOTE_HEADER : 0;
  const value = new Uint8Array(length);
  for (let done = 0, n = 0; done < length; n++) {
    const found = forkBlocks(inode, map, block + n, 1);
    if (found === undefined) throw bad(`block ${block + n} of a value is a hole`);
    const { bytes, at } = found;
    const part = Math.min(length - done, blockSize - header);
    if (volume.sb.v5) {
      const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      if (d.getUint32(0) !== ATTR_REMOTE_MAGIC) throw bad(`value at ${hex(at)}: magic is ${hex(d.getUint32(0))}`);
      volume.verify(bytes, at, REMOTE_LAYOUT, inode.ino, 'attribute value');
      if (d.getUint32(4) !== done || d.getUint32(8) !== part)
        throw bad(`value at ${hex(at)} holds ${d.getUint32(8)} bytes from ${d.getUint32(4)}, expected ${part} from ${done}`);
    }
    value.set(bytes.subarray(header, header + part), done);
    done += part;
  }
  return value;
}

/** On disk: a count, then tag, id and permissions of each entry in 12 bytes. */
function kernelAcl(inode: Inode, b: Uint8Array): Uint8Array {
  const d = new DataView(b.buffer, b.byteOffset, b.length);
  const count = b.length >= 4 ? d.getUint32(0) : -1;
  if (b.length !== 4 + 12 * count) throw inode.corrupt(`an ACL of ${count} entries has ${b.length} bytes`);
  return aclXattr(
    Array.from({ length: count }, (_, i) => {
      const o = 4 + 12 * i;
      const tag = d.getUint32(o);
      const named = tag === 0x02 || tag === 0x08;
      return { tag, perm: d.getUint16(o + 8), ...(named ? { id: d.getUint32(o + 4) } : {}) };
    }),
  );
}
