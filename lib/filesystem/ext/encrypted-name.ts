import { createHash } from 'node:crypto';
import type { Directory } from './directory.js';
import { HASH, nameHash } from './hash.js';
import { COMPAT, INODE_FLAG } from './structs.js';

/** Bytes of ciphertext that a name without key carries whole; of longer ones a digest stands for the rest. */
const WHOLE_BYTES = 149;

/**
 * What the kernel shows of an encrypted name when it has no key: base64url of the name's hash and its ciphertext.
 * Stable, and different for each name of a directory.
 */
export function noKeyName(directory: Directory, block: Uint8Array, at: number, length: number): string {
  const cipher = block.subarray(at, at + length);
  const { major, minor } = hashOf(directory, block, at, cipher);
  const rest = cipher.length > WHOLE_BYTES ? createHash('sha256').update(cipher.subarray(WHOLE_BYTES)).digest() : undefined;
  const head = cipher.subarray(0, WHOLE_BYTES);
  const out = Buffer.alloc(8 + head.length + (rest?.length ?? 0));
  out.writeUInt32LE(major, 0);
  out.writeUInt32LE(minor, 4);
  out.set(head, 8);
  if (rest !== undefined) out.set(rest, 8 + head.length);
  return out.toString('base64url');
}

function hashOf(directory: Directory, block: Uint8Array, at: number, cipher: Uint8Array): { major: number; minor: number } {
  const { inode } = directory;
  const { sb } = inode.volume;
  const none = { major: 0, minor: 0 };
  const hashed = inode.has('index') || directory.isInline || directory.blockCount === 1;
  if (!(sb.compat & COMPAT.dirIndex) || !hashed) return none;
  if (inode.flags & INODE_FLAG.casefold) {
    // Nobody could compute the hash of the folded name without the key, so the entry holds it.
    const stored = at + ((cipher.length + 3) & ~3);
    if (stored + 8 > block.length) return none;
    const d = new DataView(block.buffer, block.byteOffset + stored, 8);
    return { major: d.getUint32(0, true), minor: d.getUint32(4, true) };
  }
  let version = inode.has('index') ? (directory.block(0)?.[0x1c] ?? sb.hashVersion) : sb.hashVersion;
  if (version < HASH.unsigned && sb.hashUnsigned) version += HASH.unsigned;
  return nameHash(cipher, version, sb.hashSeed) ?? none;
}
