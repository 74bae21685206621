/** POSIX ACLs in the kernel's xattr form (linux/posix_acl_xattr.h, version 2) as the text that tar archives carry. */
const TAGS: Readonly<Record<number, string>> = { 1: 'user', 2: 'user', 4: 'group', 8: 'group', 16: 'mask', 32: 'other' };

/** "user::rw-,user:1000:r--,…" as star and GNU tar write it; undefined for what is no such attribute. */
export function aclText(value: Uint8Array): string | undefined {
  const v = new DataView(value.buffer, value.byteOffset, value.byteLength);
  if (value.length < 4 || v.getUint32(0, true) !== 2 || (value.length - 4) % 8 !== 0) return undefined;
  const entries: string[] = [];
  for (let at = 4; at < value.length; at += 8) {
    const tag = v.getUint16(at, true);
    const perm = v.getUint16(at + 2, true);
    const id = v.getUint32(at + 4, true);
    const name = TAGS[tag];
    if (name === undefined) return undefined;
    const who = tag === 2 || tag === 8 ? String(id) : '';
    entries.push(`${name}:${who}:${perm & 4 ? 'r' : '-'}${perm & 2 ? 'w' : '-'}${perm & 1 ? 'x' : '-'}`);
  }
  return entries.join(',');
}
