import { fstatSync } from 'node:fs';
import { equalBytes } from '../../core/bytes.js';
import type { Node, Stat } from '../../filesystem/driver.js';
import type { Tree } from '../../filesystem/walk.js';

export interface DiffOptions {
  /** Compares contents even where size and times are equal. */
  readonly contents?: boolean;
  readonly atime?: boolean;
  /** Link counts and times of directories, which change with what is in them. */
  readonly directoryLinks?: boolean;
  readonly directoryTimes?: boolean;
  readonly uids?: boolean;
  readonly extraStats?: boolean;
  readonly xattrs?: boolean;
}

export interface Side {
  readonly node: Node;
  readonly stat: Stat;
}
export type Difference =
  | { readonly kind: 'removed' | 'added'; readonly path: string; readonly side: Side }
  | {
      readonly kind: 'changed';
      readonly path: string;
      readonly before: Side;
      readonly after: Side;
      readonly fields: readonly string[];
      readonly contents: boolean;
    };

/** Paths in the order of a walk: a directory's children come before its next sibling. */
const key = (path: string) => path.replaceAll('/', '\u0000');

/**
 * What changed from one tree to another, in path order.  Files whose extents lie at the same place of the same host file (two
 * overlays of one backing image) are equal without being read.
 */
export function* diffTrees(before: Tree, after: Tree, options: DiffOptions = {}): Generator<Difference | undefined> {
  const a = steps(before);
  const b = steps(after);
  let x = a.next();
  let y = b.next();
  while (!x.done || !y.done) {
    const order = x.done ? 1 : y.done ? -1 : compare(x.value.key, y.value.key);
    if (order < 0) {
      const s = x.value as Step;
      yield { kind: 'removed', path: s.path, side: { node: s.node, stat: s.node.stat() } };
      x = a.next();
    } else if (order > 0) {
      const s = y.value as Step;
      yield { kind: 'added', path: s.path, side: { node: s.node, stat: s.node.stat() } };
      y = b.next();
    } else {
      // An empty turn keeps a long comparison interruptible.
      yield compareNodes((x.value as Step).node, (y.value as Step).node, (x.value as Step).path, options);
      x = a.next();
      y = b.next();
    }
  }
}
const compare = (p: string, q: string) => (p < q ? -1 : p > q ? 1 : 0);

interface Step {
  readonly path: string;
  readonly key: string;
  readonly node: Node;
}
function* steps(tree: Tree): Generator<Step> {
  yield { path: '/', key: '', node: tree.get('/').node };
  for (const s of tree.walk('/')) yield { path: s.path, key: key(s.path), node: s.node };
}

function compareNodes(p: Node, q: Node, path: string, o: DiffOptions): Difference | undefined {
  const before = { node: p, stat: p.stat() };
  const after = { node: q, stat: q.stat() };
  const s = before.stat;
  const t = after.stat;
  const fields: string[] = [];
  const check = (name: string, same: boolean) => {
    if (!same) fields.push(name);
  };
  const directory = p.kind === 'directory' && q.kind === 'directory';
  check('st_mode', s.mode === t.mode);
  if (o.uids) {
    check('st_uid', s.uid === t.uid);
    check('st_gid', s.gid === t.gid);
  }
  if (!directory) check('st_size', s.size === t.size);
  if (o.extraStats) {
    check('st_ino', s.ino === t.ino);
    if (!directory || o.directoryLinks) check('st_nlink', s.links === t.links);
    check('st_rdev', s.rdev?.major === t.rdev?.major && s.rdev?.minor === t.rdev?.minor);
    check('st_blocks', s.blocks === t.blocks);
  } else if (directory && o.directoryLinks) check('st_nlink', s.links === t.links);
  const sameTime = (u: Stat['mtime'], v: Stat['mtime']) => u.sec === v.sec && u.nsec === v.nsec;
  if (!directory || o.directoryTimes) {
    if (o.atime) check('st_atime', sameTime(s.atime, t.atime));
    check('st_mtime', sameTime(s.mtime, t.mtime));
    check('st_ctime', sameTime(s.ctime, t.ctime));
  }
  let contents = false;
  if (p.kind === 'symlink' && q.kind === 'symlink') check('link', p.target() === q.target());
  else if (p.kind === 'file' && q.kind === 'file') {
    contents = s.size !== t.size || ((fields.length > 0 || o.contents === true) && !sameContents(p, q, s.size));
    check('contents', !contents);
  }
  if (o.xattrs) check('xattrs', sameAttributes(p, q));
  return fields.length === 0 ? undefined : { kind: 'changed', path, before, after, fields, contents };
}

function sameAttributes(p: Node, q: Node): boolean {
  const a = p.attributes();
  const b = q.attributes();
  if (a.size !== b.size) return false;
  for (const [k, v] of a) {
    const w = b.get(k);
    if (w === undefined || !equalBytes(v, w)) return false;
  }
  return true;
}

const identities = new Map<number, string>();
/** Device and inode of an open host file, by which two opens of one backing file are known to be the same. */
function identity(fd: number): string {
  let id = identities.get(fd);
  if (id === undefined) {
    const st = fstatSync(fd);
    identities.set(fd, (id = `${st.dev}:${st.ino}`));
  }
  return id;
}

/** Do all bytes of both files come from the same places?  Holes are equal to holes. */
export function sharedExtents(p: Node, q: Node, size: number): boolean {
  const a = p.runs(0, size)[Symbol.iterator]();
  const b = q.runs(0, size)[Symbol.iterator]();
  let x = a.next();
  let y = b.next();
  let xAt = 0;
  let yAt = 0;
  while (!x.done && !y.done) {
    const r = x.value;
    const s = y.value;
    if (r.kind === 'computed' || r.kind !== s.kind) return false;
    if (r.kind === 'host' && s.kind === 'host' && (r.offset + xAt !== s.offset + yAt || identity(r.fd) !== identity(s.fd)))
      return false;
    const n = Math.min(r.length - xAt, s.length - yAt);
    xAt += n;
    yAt += n;
    if (xAt === r.length) {
      x = a.next();
      xAt = 0;
    }
    if (yAt === s.length) {
      y = b.next();
      yAt = 0;
    }
  }
  return x.done === y.done;
}

const CHUNK = 1 << 20;
let left: Buffer | undefined;
let right: Buffer | undefined;

function sameContents(p: Node, q: Node, size: number): boolean {
  if (size === 0 || sharedExtents(p, q, size)) return true;
  left ??= Buffer.alloc(CHUNK);
  right ??= Buffer.alloc(CHUNK);
  for (let at = 0; at < size; ) {
    const n = p.read(left.subarray(0, Math.min(CHUNK, size - at)), at);
    const m = q.read(right.subarray(0, n), at);
    if (n !== m || Buffer.compare(left.subarray(0, n), right.subarray(0, m)) !== 0) return false;
    if (n === 0) break;
    at += n;
  }
  return true;
}
