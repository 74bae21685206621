import type { Run } from '../../block/source.js';
import { corrupt, GuestError } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import type { Entry, Kind, Node, Stat } from '../driver.js';
import { Contents } from './contents.js';
import { Directory } from './directory.js';
import { noKeyName } from './encrypted-name.js';
import type { Inode } from './inode.js';
import { lookup } from './lookup.js';
import type { Volume } from './volume.js';
import { attributesOf } from './xattr.js';

const KIND_OF_TYPE: readonly Kind[] = ['unknown', 'file', 'directory', 'char', 'block', 'fifo', 'socket', 'symlink'];
const DIRECTORY_TYPE = 2;
const DOT = 0x2e;

/** The longest link text the kernel takes is one page less a byte; blocks may be larger. */
const LINK_MAX = 65536;

/** A file, directory or link of an ext filesystem; the inode is read when first needed. */
export class ExtNode implements Node {
  #inode: Inode | undefined;
  #contents: Contents | undefined;

  constructor(
    private readonly volume: Volume,
    private readonly number: number,
    /** The directory it was found in; 0 for the root. */
    private readonly parent: number,
  ) {}

  get inode(): Inode {
    return (this.#inode ??= this.#load());
  }
  #load(): Inode {
    const inode = this.volume.namedInode(this.number);
    if (inode.kind === 'directory' && this.parent !== 0) this.volume.claimDirectory(this.number, this.parent);
    return inode;
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

  *entries(): Generator<readonly Entry[]> {
    const directory = new Directory(this.inode);
    const { changes } = directory;
    const encrypted = this.inode.has('encrypt');
    const directories = new Set<number>();
    for (const block of directory.blocks()) {
      const list: Entry[] = [];
      directory.scan(block, (b, at, length, ino, type) => {
        if (b[at] === DOT && (length === 1 || (length === 2 && b[at + 1] === DOT))) return false;
        const name = encrypted ? noKeyName(directory, b, at, length) : decodeName(b.subarray(at, at + length));
        if (type === DIRECTORY_TYPE) {
          // One name for a directory: two in a row, level below level, would double a walk each time.
          if (directories.has(ino)) {
            this.volume.report(`directory inode ${this.number} names directory inode ${ino} twice, the second name is left out`);
            return false;
          }
          directories.add(ino);
        }
        if (!changes?.has(name)) list.push(new ExtEntry(this.volume, name, ino, type, this.number));
        return false;
      });
      if (list.length > 0) yield list;
    }
    const added = [...(changes ?? [])].filter(([, c]) => c.ino !== 0);
    if (added.length > 0) yield added.map(([name, c]) => new ExtEntry(this.volume, name, c.ino, c.type, this.number));
  }

  child(name: string): Node | undefined {
    const ino = lookup(new Directory(this.inode), name);
    return ino === undefined ? undefined : new ExtNode(this.volume, ino, this.number);
  }

  #data(): Contents {
    const { kind } = this.inode;
    if (kind === 'directory') throw new GuestError('is-a-directory', 'is a directory');
    return (this.#contents ??= new Contents(this.inode));
  }
  /** Devices, pipes and sockets have no contents, whatever their block pointers look like. */
  #hasContents(): boolean {
    return this.inode.kind === 'file' || this.inode.kind === 'directory';
  }

  read(into: Uint8Array, offset: number): number {
    return this.#hasContents() ? this.#data().read(into, offset) : 0;
  }
  *runs(offset: number, length: number): Generator<Run> {
    if (this.#hasContents()) yield* this.#data().runs(offset, length);
  }

  target(): string {
    const { inode } = this;
    inode.requireKind('symlink', 'not-a-symlink');
    const { size } = inode;
    if (inode.has('encrypt'))
      throw new GuestError('needs-key', `link inode ${inode.ino} is encrypted (fscrypt), its key is needed`);
    if (size > LINK_MAX || size === 0) throw corrupt(`ext: link inode ${inode.ino} has a text of ${size} bytes`);
    if (inode.isFastSymlink) {
      if (size >= 60) throw corrupt(`ext: link inode ${inode.ino} has ${size} bytes, but no block`);
      return text(inode.fields.block.subarray(0, size));
    }
    const b = new Uint8Array(size);
    new Contents(inode).read(b, 0);
    return text(b);
  }

  attributes(): ReadonlyMap<string, Uint8Array> {
    return attributesOf(this.inode);
  }
}

const text = (b: Uint8Array): string => {
  const end = b.indexOf(0);
  return decodeName(end < 0 ? b : b.subarray(0, end));
};

class ExtEntry implements Entry {
  constructor(
    private readonly volume: Volume,
    readonly name: string,
    private readonly number: number,
    private readonly type: number,
    private readonly parent: number,
  ) {}
  get ino(): bigint {
    return BigInt(this.number);
  }
  get kind(): Kind {
    const kind = KIND_OF_TYPE[this.type] ?? 'unknown';
    return kind === 'unknown' ? this.volume.namedInode(this.number).kind : kind;
  }
  node(): Node {
    return new ExtNode(this.volume, this.number, this.parent);
  }
}
