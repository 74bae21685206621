import type { Run } from '../../block/source.js';
import { corrupt, GuestError } from '../../core/errors.js';
import type { Entry, Kind, Node, Stat, Time } from '../driver.js';
import { DIRECTORY_BYTES_MAX, type Found, list } from './directory.js';
import { ATTR, DirectoryEntry } from './structs.js';
import type { Stretch, Volume } from './volume.js';

const EPOCH: Time = { sec: 0, nsec: 0 };

/** A file or directory of a FAT filesystem; `found` is undefined for the root, which has no entry. */
export class FatNode implements Node {
  readonly kind: Kind;
  #stretches: readonly Stretch[] | undefined;

  constructor(
    private readonly volume: Volume,
    private readonly found: Found | undefined,
  ) {
    this.kind = found === undefined || found.attributes & ATTR.directory ? 'directory' : 'file';
  }

  /** FAT has no inode numbers: the entry's place in units of 32 bytes is one that stays.  1 is the root. */
  get ino(): bigint {
    return this.found === undefined ? 1n : BigInt(this.found.at / 32);
  }

  #data(): readonly Stretch[] {
    return (this.#stretches ??= this.#findData());
  }
  #findData(): readonly Stretch[] {
    const { volume, found } = this;
    const { geometry: g } = volume;
    if (found === undefined) {
      if (g.bits !== 32) return [{ at: g.rootStart, length: g.rootBytes }];
      volume.claimDirectory(g.rootCluster, 0);
      return volume.chain(g.rootCluster, DIRECTORY_BYTES_MAX);
    }
    if (this.kind === 'directory') {
      volume.claimDirectory(found.cluster, found.at);
      return volume.chain(found.cluster, DIRECTORY_BYTES_MAX);
    }
    if (found.size === 0) return [];
    if (found.size > (g.clusterEnd - 2) * g.clusterSize)
      throw corrupt(`fat: "${found.name}" has ${found.size} bytes, more than the filesystem`, { offset: found.at });
    return volume.chain(found.cluster, found.size);
  }

  stat(): Stat {
    const { clusterSize } = this.volume.geometry;
    const directory = this.kind === 'directory';
    const size = directory ? this.#data().reduce((n, s) => n + s.length, 0) : this.found!.size;
    const e = this.found === undefined ? undefined : DirectoryEntry.at(this.found.raw);
    const writable = e === undefined || !(e.attributes & ATTR.readOnly);
    const mtime = e === undefined ? EPOCH : timeOf(e.modifiedDate, e.modifiedTime, 0);
    return {
      ino: this.ino,
      mode: (directory ? 0o040000 : 0o100000) | (writable ? 0o755 : 0o555),
      links: directory ? 2 + this.#subdirectories() : 1,
      uid: 0,
      gid: 0,
      size,
      blocks: (Math.ceil(size / clusterSize) * clusterSize) / 512,
      blockSize: clusterSize,
      atime: e === undefined ? EPOCH : timeOf(e.accessedDate, 0, 0),
      mtime,
      ctime: mtime,
      ...(e !== undefined && e.createdDate !== 0 ? { btime: timeOf(e.createdDate, e.createdTime, e.createdCentiseconds) } : {}),
    };
  }

  #subdirectories(): number {
    let n = 0;
    for (const found of list(this.volume, this.#data())) for (const f of found) if (f.attributes & ATTR.directory) n++;
    return n;
  }

  #requireDirectory(): void {
    if (this.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory');
  }

  *entries(): Generator<readonly Entry[]> {
    this.#requireDirectory();
    for (const found of list(this.volume, this.#data())) yield found.map((f) => new FatEntry(this.volume, f));
  }

  child(name: string): Node | undefined {
    this.#requireDirectory();
    const wanted = fold(name);
    for (const found of list(this.volume, this.#data()))
      for (const f of found) if (fold(f.name) === wanted || fold(f.shortName) === wanted) return new FatNode(this.volume, f);
    return undefined;
  }

  read(into: Uint8Array, offset: number): number {
    if (this.kind === 'directory') throw new GuestError('is-a-directory', 'is a directory');
    const { size } = this.found!;
    const n = Math.max(0, Math.min(into.length, size - offset));
    let done = 0;
    for (const s of this.#within(offset, n)) {
      this.volume.source.read(into.subarray(done, done + s.length), s.at);
      done += s.length;
    }
    return n;
  }

  *runs(offset: number, length: number): Generator<Run> {
    if (this.kind === 'directory') throw new GuestError('is-a-directory', 'is a directory');
    for (const s of this.#within(offset, Math.min(length, this.found!.size - offset)))
      for (let done = 0; done < s.length; ) {
        const run = this.volume.source.map(s.at + done, s.length - done);
        yield run;
        done += run.length;
      }
  }

  /** The parts of the file's stretches that hold a range, which lies inside the file. */
  *#within(offset: number, length: number): Generator<Stretch> {
    let start = 0;
    let left = length;
    if (left <= 0) return;
    for (const s of this.#data()) {
      const skip = Math.max(0, offset - start);
      start += s.length;
      if (skip >= s.length) continue;
      const n = Math.min(left, s.length - skip);
      yield { at: s.at + skip, length: n };
      left -= n;
      if (left === 0) return;
    }
    throw corrupt(`fat: the chain of "${this.found!.name}" ends ${left} bytes before the file does`, { offset: this.found!.at });
  }

  target(): string {
    throw new GuestError('not-a-symlink', `not a symbolic link, a ${this.kind}`);
  }
  attributes(): ReadonlyMap<string, Uint8Array> {
    return new Map();
  }
}

class FatEntry implements Entry {
  readonly name: string;
  readonly kind: Kind;
  constructor(
    private readonly volume: Volume,
    private readonly found: Found,
  ) {
    this.name = found.name;
    this.kind = found.attributes & ATTR.directory ? 'directory' : 'file';
  }
  get ino(): bigint {
    return BigInt(this.found.at / 32);
  }
  node(): Node {
    return new FatNode(this.volume, this.found);
  }
}

/** Names are equal without regard to case, and dots at the end do not count. */
const fold = (s: string): string => s.replace(/(?<=[^.])\.+$/, '').toUpperCase();

/** FAT keeps local time and does not say which: it is taken as UTC.  Two seconds are the unit. */
function timeOf(date: number, time: number, centiseconds: number): Time {
  const day = Date.UTC(1980 + (date >> 9), Math.max(1, (date >> 5) & 15) - 1, Math.max(1, date & 31)) / 1000;
  const sec = day + (time >> 11) * 3600 + ((time >> 5) & 63) * 60 + (time & 31) * 2 + Math.floor(centiseconds / 100);
  return { sec, nsec: (centiseconds % 100) * 10_000_000 };
}
