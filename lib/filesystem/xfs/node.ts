import type { Run } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import type { Entry, Kind, Node, Stat } from '../driver.js';
import { Contents } from './contents.js';
import { Directory, type Visit } from './directory.js';
import type { Inode } from './inode.js';
import { lookup } from './lookup.js';
import { linkText } from './symlink.js';
import type { Volume } from './volume.js';
import { attributesOf } from './xattr.js';

/** By the type byte of an entry; 8 is a white-out, which is a character device. */
const KIND_OF_TYPE: readonly Kind[] = ['unknown', 'file', 'directory', 'char', 'block', 'fifo', 'socket', 'symlink', 'char'];
const DOT = 0x2e;

/** A file, directory or link of an XFS filesystem; the inode is read when first needed. */
export class XfsNode implements Node {
  #inode: Inode | undefined;
  #contents: Contents | undefined;
  #directory: Directory | undefined;

  constructor(
    private readonly volume: Volume,
    private readonly number: number,
  ) {}

  get inode(): Inode {
    return (this.#inode ??= this.volume.inode(this.number));
  }
  get ino(): bigint {
    return BigInt(this.number);
  }
  get kind(): Kind {
    return this.inode.kind;
  }
  stat(): Stat {
    return this.inode.stat();
  }

  #names(): Directory {
    return (this.#directory ??= new Directory(this.inode));
  }

  *entries(): Generator<readonly Entry[]> {
    const directory = this.#names();
    let list: Entry[] = [];
    const visit: Visit = (b, at, length, ino, type) => {
      if (b[at] === DOT && (length === 1 || (length === 2 && b[at + 1] === DOT))) return false;
      list.push(new XfsEntry(this.volume, decodeName(b.subarray(at, at + length)), ino, type));
      return false;
    };
    if (directory.isShort) {
      directory.scanShort(visit);
      if (list.length > 0) yield list;
      return;
    }
    for (const block of directory.blocks()) {
      directory.scan(block, visit);
      if (list.length > 0) yield list;
      list = [];
    }
  }

  child(name: string): Node | undefined {
    const ino = lookup(this.#names(), name);
    return ino === undefined ? undefined : new XfsNode(this.volume, ino);
  }

  /** Devices, pipes and sockets have no contents. */
  #data(): Contents | undefined {
    const { kind } = this.inode;
    if (kind === 'directory') throw new GuestError('is-a-directory', 'is a directory');
    if (kind !== 'file') return undefined;
    return (this.#contents ??= new Contents(this.inode));
  }
  read(into: Uint8Array, offset: number): number {
    return this.#data()?.read(into, offset) ?? 0;
  }
  *runs(offset: number, length: number): Generator<Run> {
    const data = this.#data();
    if (data !== undefined) yield* data.runs(offset, length);
  }

  target(): string {
    return linkText(this.inode);
  }
  attributes(): ReadonlyMap<string, Uint8Array> {
    return attributesOf(this.inode);
  }
}

class XfsEntry implements Entry {
  constructor(
    private readonly volume: Volume,
    readonly name: string,
    private readonly number: number,
    private readonly type: number,
  ) {}
  get ino(): bigint {
    return BigInt(this.number);
  }
  get kind(): Kind {
    const kind = KIND_OF_TYPE[this.type] ?? 'unknown';
    return kind === 'unknown' ? this.volume.inode(this.number).kind : kind;
  }
  node(): Node {
    return new XfsNode(this.volume, this.number);
  }
}
