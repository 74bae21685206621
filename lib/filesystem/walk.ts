import { GuestError } from '../core/errors.js';
import { limits } from '../core/limits.js';
import type { Entry, FileSystem, Kind, Node } from './driver.js';

/** Where a path leads: a node, its filesystem, and the canonical path (no links, no "..") by which it was reached. */
export interface Place {
  readonly fs: FileSystem;
  readonly node: Node;
  readonly path: string;
}

export interface WalkStep extends Place {
  readonly name: string;
  readonly depth: number;
}

/**
 * A guest's tree of files: a root filesystem and others mounted on it.  Paths, symbolic links, ".." and mount points are
 * resolved here, once for all drivers, and always inside the tree: an absolute link starts at the guest's root.
 */
export class Tree {
  readonly #mounts = new Map<string, FileSystem>();

  constructor(root: FileSystem) {
    this.#mounts.set('/', root);
  }

  /** Mount points in the order they were made. */
  get mounts(): ReadonlyMap<string, FileSystem> {
    return this.#mounts;
  }

  /** Mounts `fs` on an existing directory; the canonical mount point. */
  mount(path: string, fs: FileSystem): string {
    const place = this.get(path);
    if (place.node.kind !== 'directory') throw new GuestError('not-a-directory', 'mount point is not a directory', { path });
    this.#mounts.set(place.path, fs);
    return place.path;
  }

  /** Where `path` leads, or undefined when a name on the way does not exist. */
  find(path: string, options: { readonly follow?: boolean } = {}): Place | undefined {
    return this.#resolve(path, options.follow ?? true);
  }

  /** As `find`, but throws not-found. */
  get(path: string, options: { readonly follow?: boolean } = {}): Place {
    const place = this.#resolve(path, options.follow ?? true);
    if (place === undefined) throw new GuestError('not-found', 'no such file or directory', { path });
    return place;
  }

  #resolve(path: string, follow: boolean): Place | undefined {
    if (path.length > limits.pathBytes) throw new GuestError('usage', `path of ${path.length} characters is too long`, {});
    const root = this.#mounts.get('/')!;
    const pending = split(path).reverse();
    let here: Place[] = [{ fs: root, node: root.root, path: '/' }];
    let links = 0;
    while (pending.length > 0) {
      const name = pending.pop()!;
      const at = here[here.length - 1]!;
      if (name === '..') {
        if (here.length > 1) here.pop();
        continue;
      }
      if (at.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path: at.path });
      const node = at.node.child(name);
      if (node === undefined) return undefined;
      const childPath = at.path === '/' ? `/${name}` : `${at.path}/${name}`;
      if (node.kind === 'symlink' && (follow || pending.length > 0)) {
        if (++links > limits.symlinks) throw new GuestError('symlink-loop', 'too many levels of symbolic links', { path });
        const target = node.target();
        if (target.length > limits.symlinkBytes)
          throw new GuestError('corrupt', 'symbolic link is too long', { path: childPath });
        if (target.startsWith('/')) here = [here[0]!];
        pending.push(...split(target).reverse());
        if (pending.length > limits.pathBytes)
          throw new GuestError('symlink-loop', 'symbolic links expand without end', { path });
        continue;
      }
      const mounted = this.#mounts.get(childPath);
      here.push(
        mounted === undefined ? { fs: at.fs, node, path: childPath } : { fs: mounted, node: mounted.root, path: childPath },
      );
    }
    return here[here.length - 1];
  }

  /** Kind of what is there after following links, undefined where there is nothing (also for loops and broken links). */
  kind(path: string): Kind | undefined {
    try {
      return this.find(path)?.node.kind;
    } catch (e) {
      if (e instanceof GuestError && (e.code === 'symlink-loop' || e.code === 'not-a-directory')) return undefined;
      throw e;
    }
  }
  isFile(path: string): boolean {
    return this.kind(path) === 'file';
  }
  isDirectory(path: string): boolean {
    return this.kind(path) === 'directory';
  }
  exists(path: string): boolean {
    return this.kind(path) !== undefined;
  }

  /** All of a file, at most `maxBytes` long (a parsed file, not a copied one). */
  readFile(path: string, maxBytes: number = limits.parsedFileBytes): Uint8Array {
    const { node } = this.get(path);
    return readNode(node, path, maxBytes);
  }
  /** A file's text, or undefined where it is missing or no regular file. */
  text(path: string, maxBytes = 16 << 20): string | undefined {
    const place = this.#quiet(path);
    if (place === undefined || place.node.kind !== 'file') return undefined;
    return Buffer.from(readNode(place.node, path, maxBytes)).toString('utf8');
  }
  #quiet(path: string): Place | undefined {
    try {
      return this.find(path);
    } catch (e) {
      if (e instanceof GuestError && (e.code === 'symlink-loop' || e.code === 'not-a-directory')) return undefined;
      throw e;
    }
  }

  /** Entries of a directory, mounted filesystems seen in their place, not sorted. */
  list(path: string): readonly Entry[] {
    const place = this.get(path);
    if (place.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path });
    const out: Entry[] = [];
    for (const block of place.node.entries()) for (const e of block) out.push(e);
    return out;
  }
  /** Names of a directory, or none where it is missing. */
  names(path: string): readonly string[] {
    const place = this.#quiet(path);
    if (place === undefined || place.node.kind !== 'directory') return [];
    const out: string[] = [];
    for (const block of place.node.entries()) for (const e of block) out.push(e.name);
    return out.sort();
  }

  /**
   * Every file below `path`, parents before children, names of a directory in byte order; links are not followed and
   * mounts are crossed unless `oneFileSystem`.  A directory that is its own ancestor is corruption and ends the walk.
   */
  *walk(
    path = '/',
    options: { readonly oneFileSystem?: boolean; readonly enter?: (step: WalkStep) => boolean } = {},
  ): Generator<WalkStep> {
    const start = this.get(path, { follow: true });
    const stack: Iterator<WalkStep>[] = [];
    const ancestors: { fs: FileSystem; ino: bigint }[] = [];
    if (start.node.kind !== 'directory') return;
    stack.push(this.#children(start, 1, options.oneFileSystem ?? false));
    ancestors.push({ fs: start.fs, ino: start.node.ino });
    while (stack.length > 0) {
      const next = stack[stack.length - 1]!.next();
      if (next.done) {
        stack.pop();
        ancestors.pop();
        continue;
      }
      const step = next.value;
      yield step;
      if (step.node.kind !== 'directory' || options.enter?.(step) === false) continue;
      if (ancestors.some((a) => a.fs === step.fs && a.ino === step.node.ino))
        throw new GuestError('corrupt', 'directory is its own ancestor', { path: step.path });
      if (stack.length >= limits.directoryDepth)
        throw new GuestError('corrupt', `directories nest deeper than ${limits.directoryDepth}`, { path: step.path });
      stack.push(this.#children(step, step.depth + 1, options.oneFileSystem ?? false));
      ancestors.push({ fs: step.fs, ino: step.node.ino });
    }
  }

  *#children(place: Place, depth: number, oneFileSystem: boolean): Generator<WalkStep> {
    const entries: Entry[] = [];
    for (const block of place.node.entries()) for (const e of block) entries.push(e);
    entries.sort(byName);
    const prefix = place.path === '/' ? '/' : `${place.path}/`;
    for (const e of entries) {
      const path = prefix + e.name;
      const mounted = this.#mounts.size > 1 ? this.#mounts.get(path) : undefined;
      if (mounted !== undefined && oneFileSystem) continue;
      yield mounted !== undefined
        ? { fs: mounted, node: mounted.root, path, name: e.name, depth }
        : { fs: place.fs, node: e.node(), path, name: e.name, depth };
    }
  }
}

/** Byte order of UTF-8 equals code point order; UTF-16 order differs only where surrogates meet U+E000 and above. */
const byName = (a: Entry, b: Entry): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

const split = (path: string): string[] => path.split('/').filter((s) => s !== '' && s !== '.');

/** All of a node's contents; refuses what is larger than `maxBytes`. */
export function readNode(node: Node, path: string, maxBytes: number = limits.parsedFileBytes): Uint8Array {
  if (node.kind === 'directory') throw new GuestError('is-a-directory', 'is a directory', { path });
  if (node.kind !== 'file') throw new GuestError('unsupported', `is a ${node.kind} node, not a regular file`, { path });
  const size = node.stat().size;
  if (size > maxBytes)
    throw new GuestError('unsupported', `file of ${size} bytes is larger than the limit of ${maxBytes}`, { path });
  const out = new Uint8Array(size);
  let done = 0;
  while (done < size) {
    const n = node.read(out.subarray(done), done);
    if (n === 0) break;
    done += n;
  }
  return done === size ? out : out.subarray(0, done);
}
