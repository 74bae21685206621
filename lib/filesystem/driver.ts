import type { BlockSource, Run } from '../block/source.js';

/** One kind of filesystem.  A driver is a folder that exports one of these, and one line in registry.ts. */
export interface FileSystemDriver {
  /** "ext", "xfs": the folder's name.  The type blkid would print is in the signature. */
  readonly name: string;
  /** Reads a few sectors; says what is there without opening it.  Never throws for foreign bytes. */
  probe(source: BlockSource): Signature | undefined;
  open(source: BlockSource, options?: OpenOptions): FileSystem;
}

export interface Signature {
  /** As blkid prints it: "ext4", "xfs", "vfat", "swap". */
  readonly type: string;
  readonly uuid?: string;
  readonly label?: string;
}

export interface OpenOptions {
  /** Reads the filesystem as it lies there, without replaying its journal. */
  readonly ignoreJournal?: boolean;
  readonly subvolume?: string;
  /** The other devices of a filesystem that spans several (btrfs): same signature uuid. */
  readonly members?: readonly BlockSource[];
}

export interface FileSystem {
  readonly signature: Signature;
  readonly root: Node;
  readonly caseSensitive: boolean;
  /** Things a user should know: "journal replayed in memory (12 blocks)", "log is dirty, not replayed". */
  readonly problems: readonly string[];
  usage(): Usage;
  close(): void;
}

/** statvfs: `blocks` and `free` count blocks of `blockSize`; `available` is free less what is reserved for root. */
export interface Usage {
  readonly blockSize: number;
  readonly blocks: number;
  readonly free: number;
  readonly available: number;
  readonly files: number;
  readonly freeFiles: number;
}

export type Kind = 'file' | 'directory' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket' | 'unknown';

export interface Stat {
  readonly ino: bigint;
  /** File type and permission bits, as st_mode. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  /** 512-byte units, as st_blocks. */
  readonly blocks: number;
  readonly blockSize: number;
  /** Device nodes only. */
  readonly rdev?: { readonly major: number; readonly minor: number };
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  readonly btime?: Time;
}
export interface Time {
  readonly sec: number;
  readonly nsec: number;
}

/** `name` is UTF-8, bytes that are not are lone surrogates (core/text.ts): it can be shown and looked up again. */
export interface Entry {
  readonly name: string;
  /** From the directory where it says so, else from the inode. */
  readonly kind: Kind;
  readonly ino: bigint;
  node(): Node;
}

/** A file, directory or link.  Paths, symlinks and case rules are not the driver's business: walk.ts does them once for all. */
export interface Node {
  readonly kind: Kind;
  /** Identity within the filesystem (inode number): hard links share it. */
  readonly ino: bigint;
  stat(): Stat;
  /** One array per directory block, "." and ".." left out.  Throws not-a-directory. */
  entries(): Iterable<readonly Entry[]>;
  /** One name, through the index where the format has one; compares bytes, decodes nothing.  Throws not-a-directory. */
  child(name: string): Node | undefined;
  /** Up to into.length bytes; 0 at the end of the file; holes read as zeroes. */
  read(into: Uint8Array, offset: number): number;
  /** Where the contents lie in the source, for copying without passing through JavaScript, and to find holes. */
  runs(offset: number, length: number): Iterable<Run>;
  /** The link's text. */
  target(): string;
  /**
   * Extended attributes with full names ("user.x", "security.selinux", "system.posix_acl_access"), values as the kernel's
   * getxattr gives them (POSIX ACLs in the kernel's xattr form, version 2, whatever the disk format is).
   */
  attributes(): ReadonlyMap<string, Uint8Array>;
}

export const S_IFMT = 0o170000;
/** By the top four bits.  A list, because biome's formatter turns octal property keys into wrong decimal ones. */
const KINDS: readonly (Kind | undefined)[] = [
  undefined,
  'fifo',
  'char',
  undefined,
  'directory',
  undefined,
  'block',
  undefined,
  'file',
  undefined,
  'symlink',
  undefined,
  'socket',
];
export const kindOfMode = (mode: number): Kind => KINDS[(mode & S_IFMT) >>> 12] ?? 'unknown';
