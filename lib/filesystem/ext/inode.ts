import { crc32cRaw } from '../../core/checksum.js';
import { corrupt, GuestError } from '../../core/errors.js';
import { type Kind, kindOfMode, type Stat, type Time } from '../driver.js';
import { INCOMPAT, INODE_FLAG, InodeCore, InodeExtra, RO_COMPAT } from './structs.js';
import type { Volume } from './volume.js';

/** One inode's fields, decoded when asked for. */
export class Inode {
  readonly fields: ReturnType<typeof InodeCore.at>;
  readonly mode: number;
  readonly kind: Kind;
  readonly flags: number;

  constructor(
    readonly volume: Volume,
    readonly ino: number,
    readonly raw: Uint8Array,
  ) {
    this.fields = InodeCore.at(raw);
    this.mode = this.fields.mode;
    this.kind = kindOfMode(this.mode);
    this.flags = this.fields.flags;
  }

  has(flag: keyof typeof INODE_FLAG): boolean {
    return (this.flags & INODE_FLAG[flag]) !== 0;
  }
  get links(): number {
    return this.fields.linksCount;
  }

  /** Bytes of the fixed part that are in use: 128 and what `extraIsize` adds. */
  get fixedSize(): number {
    if (this.raw.length <= 128) return 128;
    const extra = this.raw[0x80]! | (this.raw[0x81]! << 8);
    return extra > this.raw.length - 128 || extra % 4 !== 0 ? 128 : 128 + extra;
  }

  get storedChecksum(): number {
    const lo = this.fields.checksumLo;
    const wide = this.raw.length > 128 && (this.raw[0x80]! | (this.raw[0x81]! << 8)) >= 4;
    return wide ? lo + (this.raw[0x82]! | (this.raw[0x83]! << 8)) * 65536 : lo;
  }

  /** CRC-32C state that the checksums of this inode's extent and directory blocks start from. */
  get csumSeed(): number {
    const b = new Uint8Array(8);
    const d = new DataView(b.buffer);
    d.setUint32(0, this.ino, true);
    d.setUint32(4, this.fields.generation, true);
    return crc32cRaw(b, this.volume.sb.csumSeed);
  }

  get size(): number {
    const wide = this.kind === 'file' || (this.volume.sb.incompat & INCOMPAT.largedir) !== 0;
    const size = this.fields.sizeLo + (wide ? this.fields.sizeHigh * 2 ** 32 : 0);
    if (!Number.isSafeInteger(size))
      throw corrupt(`ext: inode ${this.ino} has a size of ${size} bytes`, { offset: this.volume.inodeOffset(this.ino) });
    return size;
  }

  /** 512-byte units. */
  get sectors(): number {
    const f = this.fields;
    if (!(this.volume.sb.roCompat & RO_COMPAT.hugeFile)) return f.blocksLo;
    const n = f.blocksHigh * 2 ** 32 + f.blocksLo;
    return this.has('hugeFile') ? n * (this.volume.blockSize / 512) : n;
  }

  /** The block that holds extended attributes, or 0. */
  get xattrBlock(): number {
    return this.fields.fileAclLo + (this.volume.sb.incompat & INCOMPAT.bit64 ? this.fields.fileAclHigh * 2 ** 32 : 0);
  }

  /** A link whose text is in the inode itself. */
  get isFastSymlink(): boolean {
    if (this.kind !== 'symlink' || this.has('inlineData')) return false;
    if (this.has('eaInode')) return this.size > 0 && this.size < 60;
    const xattr = this.xattrBlock !== 0 ? (this.volume.blockSize * this.volume.sb.clusterRatio) / 512 : 0;
    return this.sectors - xattr === 0;
  }

  requireKind(kind: Kind, code: 'not-a-directory' | 'not-a-symlink'): void {
    if (this.kind !== kind)
      throw new GuestError(code, code === 'not-a-directory' ? 'not a directory' : `not a symbolic link, a ${this.kind}`);
  }

  stat(): Stat {
    const f = this.fields;
    const fixed = this.fixedSize;
    const x = this.raw.length >= InodeExtra.size ? InodeExtra.at(this.raw) : undefined;
    const size = this.size;
    let blocks = this.sectors;
    // The kernel counts a file that lives in its inode as if it had blocks.
    if (this.kind === 'file' && this.has('inlineData')) blocks += Math.ceil(size / 512);
    return {
      ino: BigInt(this.ino),
      mode: this.mode,
      links: f.linksCount,
      uid: f.uidLo + f.uidHigh * 65536,
      gid: f.gidLo + f.gidHigh * 65536,
      size,
      blocks,
      blockSize: this.volume.blockSize,
      ...(this.kind === 'char' || this.kind === 'block' ? { rdev: this.#device() } : {}),
      atime: time(f.atime, fixed >= 0x90 && x ? x.atimeExtra : 0),
      mtime: time(f.mtime, fixed >= 0x8c && x ? x.mtimeExtra : 0),
      ctime: time(f.ctime, fixed >= 0x88 && x ? x.ctimeExtra : 0),
      ...(fixed >= 0x94 && x ? { btime: time(x.crtime, fixed >= 0x98 ? x.crtimeExtra : 0) } : {}),
    };
  }

  /** Either of two encodings: 8 + 8 bits in the first word, else 12 + 20 bits in the second. */
  #device(): { major: number; minor: number } {
    const d = this.fields.view;
    const old = d.getUint32(0x28, true);
    if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
    const v = d.getUint32(0x2c, true);
    return { major: (v & 0xfff00) >>> 8, minor: (v & 0xff) | ((v >>> 12) & 0xfff00) };
  }
}

/** `extra`: 2 bits more of epoch, 30 bits of nanoseconds. */
const time = (sec: number, extra: number): Time => ({ sec: sec + (extra & 3) * 2 ** 32, nsec: extra >>> 2 });
