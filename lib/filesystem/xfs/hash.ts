const rol = (n: number, by: number): number => (n << by) | (n >>> (32 - by));

/** The hash names of files and attributes are sorted by. */
export function nameHash(name: Uint8Array): number {
  let hash = 0;
  let i = 0;
  let left = name.length;
  for (; left >= 4; left -= 4, i += 4)
    hash = (name[i]! << 21) ^ (name[i + 1]! << 14) ^ (name[i + 2]! << 7) ^ name[i + 3]! ^ rol(hash, 28);
  if (left === 3) hash = (name[i]! << 14) ^ (name[i + 1]! << 7) ^ name[i + 2]! ^ rol(hash, 21);
  else if (left === 2) hash = (name[i]! << 7) ^ name[i + 1]! ^ rol(hash, 14);
  else if (left === 1) hash = name[i]! ^ rol(hash, 7);
  return hash >>> 0;
}

/** ASCII letters only, as mkfs and xfs_repair fold. */
export const foldAscii = (c: number): number => (c >= 0x41 && c <= 0x5a ? c + 32 : c);
/** The kernel's folding takes bytes for Latin-1. */
export const foldLatin1 = (c: number): number => ((c >= 0xc0 && c <= 0xd6) || (c >= 0xd8 && c <= 0xde) ? c + 32 : foldAscii(c));

/** The hash of a filesystem whose names ignore ASCII case. */
export function foldedHash(name: Uint8Array, fold: (c: number) => number): number {
  let hash = 0;
  for (const c of name) hash = fold(c) ^ rol(hash, 7);
  return hash >>> 0;
}
