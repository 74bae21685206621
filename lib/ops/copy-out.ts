import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { makeNode, setTimes, setXattr } from '../addon/sysio.js';
import { fromSystem, GuestError, within } from '../core/errors.js';
import { encodeName } from '../core/text.js';
import type { Node, Stat } from '../filesystem/driver.js';
import { S_IFMT } from '../filesystem/driver.js';
import type { Tree } from '../filesystem/walk.js';

export interface CopyOutOptions {
  /** Sets owner and group; only root can.  Default: when running as root. */
  readonly owner?: boolean;
  /** Called for each path before it is written. */
  each?(path: string): void;
  /** Called now and then with the bytes copied. */
  progress?(bytes: number): void;
}

const CHUNK = 1 << 20;

/**
 * Copies a file or a whole directory of a guest into a host folder, piece by piece (a step is at most 1 MiB): contents
 * with their holes, links, hard links, devices, modes, times, owners (as root) and extended attributes.  What the host does not let
 * us set is told by `warnings`, once a kind.  Links on the host are never followed below the target.
 */
export class CopyOut {
  /** What could not be done, with the first path and how many there were. */
  readonly #warned = new Map<string, { first: string; count: number }>();
  readonly #links = new Map<string, Buffer>();
  readonly #fs = new Map<unknown, number>();
  readonly #owner: boolean;
  readonly #buffer = new Uint8Array(CHUNK);
  #done = 0;
  constructor(
    private readonly tree: Tree,
    private readonly options: CopyOutOptions = {},
  ) {
    this.#owner = options.owner ?? process.getuid?.() === 0;
  }

  #warn(what: string, path: string): void {
    const w = this.#warned.get(what);
    if (w === undefined) this.#warned.set(what, { first: path, count: 1 });
    else w.count++;
  }
  get warnings(): readonly string[] {
    return [...this.#warned].map(([what, w]) => `${what} (${w.first}${w.count > 1 ? ` and ${w.count - 1} more` : ''})`);
  }

  *run(source: string, folder: string): Generator<void> {
    if (!within({ path: folder }, () => statSync(folder)).isDirectory())
      throw new GuestError('not-a-directory', 'is not a folder', { path: folder });
    const place = this.tree.get(source, { follow: false });
    const name = place.path.slice(place.path.lastIndexOf('/') + 1);
    const base = Buffer.from(encodeName(`${folder.replace(/\/+$/, '') || '/'}/${name}`));
    const directories: { path: Buffer; node: Node; stat: Stat }[] = [];
    yield* this.#one(place.node, place.fs, base, place.path, directories);
    if (place.node.kind === 'directory') {
      const prefix = place.path === '/' ? 0 : place.path.length;
      for (const step of this.tree.walk(source)) {
        const host = Buffer.concat([base, Buffer.from(encodeName(step.path.slice(prefix)))]);
        yield* this.#one(step.node, step.fs, host, step.path, directories);
      }
    }
    // Writing into a directory changes its time, and its mode may forbid writing: both come last, deepest first.
    for (const d of directories.reverse()) within({ path: d.path.toString() }, () => this.#finish(d.path, d.node, d.stat));
  }

  *#one(
    node: Node,
    fs: unknown,
    host: Buffer,
    guestPath: string,
    directories: { path: Buffer; node: Node; stat: Stat }[],
  ): Generator<void> {
    this.options.each?.(guestPath);
    const stat = node.stat();
    const where = { path: host.toString() };
    if (node.kind === 'directory') {
      within(where, () => makeDirectory(host));
      directories.push({ path: host, node, stat });
      yield;
      return;
    }
    let n = this.#fs.get(fs);
    if (n === undefined) this.#fs.set(fs, (n = this.#fs.size));
    const key = `${n}:${node.ino}`;
    const first = stat.links > 1 ? this.#links.get(key) : undefined;
    within(where, () => rmSync(host, { force: true }));
    if (first !== undefined) {
      within(where, () => linkSync(first, host));
      yield;
      return;
    }
    switch (node.kind) {
      case 'file':
        yield* this.#file(node, stat, host);
        break;
      case 'symlink':
        within(where, () => symlinkSync(Buffer.from(encodeName(node.target())), host));
        break;
      default:
        if (node.kind === 'unknown' || !makeNode(host, stat.mode & (S_IFMT | 0o7777), stat.rdev ?? { major: 0, minor: 0 })) {
          this.#warn('device nodes, fifos and sockets could not be made', guestPath);
          return;
        }
    }
    if (stat.links > 1) this.#links.set(key, host);
    within(where, () => this.#finish(host, node, stat));
    yield;
  }

  *#file(node: Node, stat: Stat, host: Buffer): Generator<void> {
    const where = { path: host.toString() };
    const fd = within(where, () =>
      openSync(host, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600),
    );
    try {
      let at = 0;
      for (const run of node.runs(0, stat.size)) {
        if (run.kind !== 'zero')
          for (let done = 0; done < run.length; ) {
            const part = this.#buffer.subarray(0, Math.min(CHUNK, run.length - done));
            const n = node.read(part, at + done);
            if (n === 0) break;
            within(where, () => writeFully(fd, part.subarray(0, n), at + done));
            done += n;
            this.#done += n;
            this.options.progress?.(this.#done);
            yield;
          }
        at += run.length;
      }
      within(where, () => ftruncateSync(fd, stat.size));
      if (this.#owner) within(where, () => fchownSync(fd, stat.uid, stat.gid));
      within(where, () => fchmodSync(fd, stat.mode & 0o7777));
    } finally {
      closeSync(fd);
    }
  }

  #finish(path: Buffer, node: Node, stat: Stat): void {
    if (this.#owner && node.kind !== 'file') {
      try {
        lchownSync(path, stat.uid, stat.gid);
      } catch (e) {
        throw fromSystem(e, {});
      }
    }
    if (node.kind !== 'symlink' && node.kind !== 'file') chmodSync(path, stat.mode & 0o7777);
    for (const [name, value] of node.attributes())
      if (!setXattr(path, name, value)) this.#warn(`extended attribute ${name} could not be set`, path.toString());
    setTimes(path, stat.atime, stat.mtime);
  }
}

/** A directory of ours; one that is there already is used, a link in its place is replaced. */
function makeDirectory(path: Buffer): void {
  try {
    mkdirSync(path, 0o700);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e;
    if (lstatSync(path).isDirectory()) return;
    rmSync(path, { force: true });
    mkdirSync(path, 0o700);
  }
}

function writeFully(fd: number, b: Uint8Array, offset: number): void {
  for (let done = 0; done < b.length; ) done += writeSync(fd, b, done, b.length - done, offset + done);
}
