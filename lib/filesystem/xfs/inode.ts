import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { type Kind, kindOfMode, type Stat, type Time } from '../driver.js';
import { FLAG_REALTIME, FLAGS2, FORMAT, INODE_TIME, InodeCore, InodeV3, LegacyTime } from './structs.js';
import type { Volume } from './volume.js';

/** One of the two things an inode points to: its contents and its attributes. */
export interface Fork {
  readonly format: number;
  readonly bytes: Uint8Array;
  readonly extents: number;
}

/** One inode's fields, decoded when asked for. */
export class Inode {
  readonly mode: number;
  readonly kind: Kind;
  readonly fields: ReturnType<typeof InodeCore.at>;
  readonly #flags2: number;

  constructor(
    readonly volume: Volume,
    readonly ino: number,
    /** Byte offset in the source. */
    readonly at: number,
    readonly raw: Uint8Array,
  ) {
    this.fields = InodeCore.at(raw);
    this.mode = this.fields.mode;
    this.kind = kindOfMode(this.mode);
    this.#flags2 = this.fields.version >= 3 ? Number(InodeV3.at(raw).flags2 & 0xffn) : 0;
  }

  corrupt(problem: string): GuestError {
    return corrupt(`xfs: inode ${this.ino}: ${problem}`, { offset: this.at });
  }

  get #coreSize(): number {
    return this.fields.version >= 3 ? InodeV3.size : InodeCore.size;
  }
  get #large(): boolean {
    return (this.#flags2 & FLAGS2.nrext64) !== 0;
  }

  get size(): number {
    const { sizeHi, sizeLo } = this.fields;
    if (sizeHi >= 0x80000000) throw this.corrupt(`size is ${hex((BigInt(sizeHi) << 32n) | BigInt(sizeLo))}`);
    if (sizeHi > 0x1fffff) throw unsupported(`xfs: inode ${this.ino}: size is above 2^53 bytes`, { offset: this.at });
    return sizeHi * 2 ** 32 + sizeLo;
  }

  /** Where the attribute fork starts within the literal area; all of it is the data fork's when there are no attributes. */
  #forkOffset(): number {
    const room = this.raw.length - this.#coreSize;
    const offset = this.fields.forkoff * 8;
    if (offset >= room) throw this.corrupt(`the attribute fork starts at ${offset}, the inode has room for ${room} bytes`);
    return offset;
  }

  get dataFork(): Fork {
    const core = this.#coreSize;
    const offset = this.#forkOffset();
    return {
      format: this.fields.format,
      bytes: this.raw.subarray(core, offset === 0 ? this.raw.length : core + offset),
      extents: this.#large ? this.fields.bigNextents : this.fields.nextents,
    };
  }

  get attributeFork(): Fork | undefined {
    const offset = this.#forkOffset();
    if (offset === 0) return undefined;
    return {
      format: this.fields.aformat,
      bytes: this.raw.subarray(this.#coreSize + offset),
      extents: this.#large ? this.fields.nextents : this.fields.anextents,
    };
  }

  requireKind(kind: Kind, code: 'not-a-directory' | 'not-a-symlink'): void {
    if (this.kind !== kind)
      throw new GuestError(code, code === 'not-a-directory' ? 'not a directory' : `not a symbolic link, a ${this.kind}`);
  }

  requireDataDevice(): void {
    if (this.fields.flags & FLAG_REALTIME && this.kind === 'file')
      throw unsupported(`xfs: inode ${this.ino}: its contents are on the realtime device, which is not read`, {
        offset: this.at,
      });
  }

  stat(): Stat {
    const f = this.fields;
    const { blockSize } = this.volume;
    return {
      ino: BigInt(this.ino),
      mode: this.mode,
      links: f.version === 1 ? f.onlink : f.nlink,
      uid: f.uid,
      gid: f.gid,
      size: this.size,
      blocks: f.nblocks * (blockSize / 512),
      // The kernel never says less than a page.
      blockSize: Math.max(4096, blockSize),
      ...(this.kind === 'char' || this.kind === 'block' ? { rdev: this.#device() } : {}),
      atime: this.#time(INODE_TIME.atime),
      mtime: this.#time(INODE_TIME.mtime),
      ctime: this.#time(INODE_TIME.ctime),
      ...(f.version >= 3 ? { btime: this.#time(INODE_TIME.crtime) } : {}),
    };
  }

  #device(): { major: number; minor: number } {
    const fork = this.dataFork;
    if (fork.format !== FORMAT.dev || fork.bytes.length < 4) throw this.corrupt(`a device has a fork of format ${fork.format}`);
    const b = fork.bytes;
    const device = new DataView(b.buffer, b.byteOffset, 4).getUint32(0);
    return { major: device >>> 18, minor: device & 0x3ffff };
  }

  #time(at: number): Time {
    const t = LegacyTime.at(this.raw, at);
    if (!(this.#flags2 & FLAGS2.bigtime)) return { sec: t.sec, nsec: t.nsec };
    return bigTime(t.sec >>> 0, t.nsec);
  }
}

/** Nanoseconds since 1901-12-13 20:45:52 in 64 bits: divided by hand, since a double has no room for them. */
export function bigTime(hi: number, lo: number): Time {
  const second = 1_000_000_000;
  const upper = (hi % second) * 65536 + (lo >>> 16);
  const lower = (upper % second) * 65536 + (lo & 0xffff);
  const sec = Math.floor(hi / second) * 2 ** 32 + Math.floor(upper / second) * 65536 + Math.floor(lower / second);
  return { sec: sec - 2 ** 31, nsec: lower % second };
}
