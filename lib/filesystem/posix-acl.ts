import { corrupt } from '../core/errors.js';

export interface AclEntry {
  readonly tag: number;
  readonly perm: number;
  /** Only for named users (tag 2) and groups (tag 8). */
  readonly id?: number;
}
const NAMED = new Set([0x02, 0x08]);
const KNOWN = new Set([0x01, 0x02, 0x04, 0x08, 0x10, 0x20]);

/** A POSIX ACL in the form getxattr gives: version 2, then tag, permissions and id of each entry, little endian. */
export function aclXattr(entries: readonly AclEntry[]): Uint8Array {
  const out = new Uint8Array(4 + 8 * entries.length);
  const d = new DataView(out.buffer);
  d.setUint32(0, 2, true);
  entries.forEach((e, i) => {
    d.setUint16(4 + 8 * i, e.tag, true);
    d.setUint16(6 + 8 * i, e.perm, true);
    d.setUint32(8 + 8 * i, e.id ?? 0xffffffff, true);
  });
  return out;
}

/** The form ext2/3/4 (and others after it) keep on disk: version 1, ids only where an entry has one. */
export function aclFromVersion1(b: Uint8Array): Uint8Array {
  const bad = (what: string) => corrupt(`POSIX ACL: ${what}`);
  const d = new DataView(b.buffer, b.byteOffset, b.length);
  if (b.length < 4) throw bad(`${b.length} bytes long`);
  if (d.getUint32(0, true) !== 1) throw bad(`version ${d.getUint32(0, true)}, expected 1`);
  const entries: AclEntry[] = [];
  for (let o = 4; o < b.length; ) {
    if (o + 4 > b.length) throw bad('ends inside an entry');
    const tag = d.getUint16(o, true);
    const perm = d.getUint16(o + 2, true);
    if (!KNOWN.has(tag)) throw bad(`tag ${tag} is not known`);
    o += 4;
    if (!NAMED.has(tag)) {
      entries.push({ tag, perm });
      continue;
    }
    if (o + 4 > b.length) throw bad('ends inside an entry');
    entries.push({ tag, perm, id: d.getUint32(o, true) });
    o += 4;
  }
  return aclXattr(entries);
}
