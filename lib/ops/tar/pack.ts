import { encodeName } from '../../core/text.js';
import type { Node, Stat } from '../../filesystem/driver.js';
import type { Tree } from '../../filesystem/walk.js';
import { aclText } from './acl.js';
import { BLOCK, encodeHeader, endOfArchive, padding, type TarEntry } from './header.js';

export interface PackOptions {
  /** Extended attributes, ACLs and SELinux labels as pax records. */
  readonly attributes?: boolean;
  /** Holes of at least this many bytes in total make an entry sparse (GNU format 1.0); 0 never does. */
  readonly sparseFrom?: number;
  readonly numericOwner?: boolean;
  /** Shell patterns of paths (relative, "./" first) that are left out. */
  readonly exclude?: (path: string) => boolean;
  /** Called now and then with the bytes of file contents done. */
  progress?(bytes: number): void;
}

const CHUNK = 1 << 20;

/**
 * A directory of a guest as a pax archive, piece by piece: names are relative, "./" first, as `tar -C DIR -c .` gives
 * them.  The second name of a hard link refers to the first.  Each piece is valid until the next is asked for.
 */
export function* packTree(tree: Tree, directory: string, options: PackOptions = {}): Generator<Uint8Array> {
  const start = tree.get(directory);
  let written = 0;
  let done = 0;
  const buffer = new Uint8Array(CHUNK);
  const links = new Map<string, string>();
  const fsNumbers = new Map<unknown, number>();
  const prefix = start.path === '/' ? 1 : start.path.length + 1;
  const emit = function* (node: Node, name: string, key: string): Generator<Uint8Array> {
    const stat = node.stat();
    const entry = entryOf(node, stat, name, options);
    if (entry === undefined) return;
    if (stat.links > 1 && node.kind !== 'directory') {
      const first = links.get(key);
      if (first !== undefined) {
        const header = encodeHeader({ ...entry, type: '1', size: 0, linkName: first, records: [] });
        written += header.length;
        yield header;
        return;
      }
      links.set(key, name);
    }
    if (node.kind !== 'file' || stat.size === 0) {
      const header = encodeHeader(entry);
      written += header.length;
      yield header;
      return;
    }
    for (const piece of contents(node, stat, entry, options, buffer)) {
      written += piece.length;
      done += piece.length;
      yield piece;
    }
    options.progress?.(done);
  };
  if (start.node.kind !== 'directory') {
    yield* emit(start.node, start.path.slice(start.path.lastIndexOf('/') + 1), '');
  } else {
    yield* emit(start.node, './', '');
    for (const step of tree.walk(directory, { enter: (s) => !(options.exclude?.(`./${s.path.slice(prefix)}`) ?? false) })) {
      const relative = `./${step.path.slice(prefix)}`;
      if (options.exclude?.(relative)) continue;
      let n = fsNumbers.get(step.fs);
      if (n === undefined) fsNumbers.set(step.fs, (n = fsNumbers.size));
      yield* emit(step.node, step.node.kind === 'directory' ? `${relative}/` : relative, `${n}:${step.node.ino}`);
    }
  }
  yield endOfArchive(written);
}

const TYPES = { file: '0', symlink: '2', char: '3', block: '4', directory: '5', fifo: '6' } as const;

/** The entry without its contents; undefined for sockets, which tar cannot hold. */
function entryOf(node: Node, stat: Stat, name: string, options: PackOptions): TarEntry | undefined {
  if (node.kind === 'socket' || node.kind === 'unknown') return undefined;
  const records: (readonly [string, Uint8Array])[] = [];
  if (options.attributes ?? true)
    for (const [key, value] of node.attributes()) {
      if (key === 'system.posix_acl_access' || key === 'system.posix_acl_default') {
        const text = aclText(value);
        if (text !== undefined)
          records.push([key.endsWith('access') ? 'SCHILY.acl.access' : 'SCHILY.acl.default', encodeName(text)]);
      } else if (key === 'security.selinux') records.push(['RHT.security.selinux', trimNul(value)]);
      else records.push([`SCHILY.xattr.${key}`, value]);
    }
  return {
    name,
    type: TYPES[node.kind],
    mode: stat.mode,
    uid: stat.uid,
    gid: stat.gid,
    size: node.kind === 'file' ? stat.size : 0,
    mtime: stat.mtime,
    ...(node.kind === 'symlink' ? { linkName: node.target() } : {}),
    ...(stat.rdev === undefined ? {} : { rdev: stat.rdev }),
    records,
  };
}
const trimNul = (b: Uint8Array) => (b.length > 0 && b[b.length - 1] === 0 ? b.subarray(0, -1) : b);

/** Header and data of a regular file; zero runs of at least a block are left out of a sparse one. */
function* contents(node: Node, stat: Stat, entry: TarEntry, options: PackOptions, buffer: Uint8Array): Generator<Uint8Array> {
  const sparse = options.sparseFrom === 0 ? undefined : sparseMap(node, stat, options.sparseFrom ?? 65536);
  if (sparse === undefined) {
    yield encodeHeader(entry);
    yield* data(node, 0, stat.size, buffer);
    const pad = padding(stat.size);
    if (pad > 0) yield new Uint8Array(pad);
    return;
  }
  const map = encodeName(`${sparse.length}\n${sparse.map((r) => `${r.offset}\n${r.length}\n`).join('')}`);
  const mapSize = map.length + padding(map.length);
  const size = mapSize + sparse.reduce((n, r) => n + r.length, 0);
  const slash = entry.name.lastIndexOf('/');
  yield encodeHeader({
    ...entry,
    name: `${entry.name.slice(0, slash + 1)}GNUSparseFile.0/${entry.name.slice(slash + 1)}`,
    size,
    records: [
      ...(entry.records ?? []),
      ['GNU.sparse.major', encodeName('1')],
      ['GNU.sparse.minor', encodeName('0')],
      ['GNU.sparse.name', encodeName(entry.name)],
      ['GNU.sparse.realsize', encodeName(String(stat.size))],
    ],
  });
  const head = new Uint8Array(mapSize);
  head.set(map);
  yield head;
  for (const r of sparse) if (r.length > 0) yield* data(node, r.offset, r.length, buffer);
  const pad = padding(size);
  if (pad > 0) yield new Uint8Array(pad);
}

/** The data runs of a file with holes of at least `threshold` bytes in all; undefined for others. */
function sparseMap(node: Node, stat: Stat, threshold: number): { offset: number; length: number }[] | undefined {
  // Cheap for the usual file, whose blocks hold all of it.
  if (stat.blocks * 512 >= stat.size || stat.size < threshold) return undefined;
  const runs: { offset: number; length: number }[] = [];
  let at = 0;
  let holes = 0;
  for (const run of node.runs(0, stat.size)) {
    if (run.kind === 'zero') holes += run.length;
    else {
      const last = runs[runs.length - 1];
      if (last !== undefined && last.offset + last.length === at) last.length += run.length;
      else runs.push({ offset: at, length: run.length });
    }
    at += run.length;
  }
  if (holes < threshold) return undefined;
  // Runs start and end at block boundaries, as the format wants them but for the end of the file.
  const rounded: { offset: number; length: number }[] = [];
  for (const r of runs) {
    const start = Math.floor(r.offset / BLOCK) * BLOCK;
    const end = Math.min(stat.size, Math.ceil((r.offset + r.length) / BLOCK) * BLOCK);
    const last = rounded[rounded.length - 1];
    if (last !== undefined && start <= last.offset + last.length) last.length = end - last.offset;
    else rounded.push({ offset: start, length: end - start });
  }
  const last = rounded[rounded.length - 1];
  if (last === undefined || last.offset + last.length < stat.size) rounded.push({ offset: stat.size, length: 0 });
  return rounded;
}

function* data(node: Node, offset: number, length: number, buffer: Uint8Array): Generator<Uint8Array> {
  for (let done = 0; done < length; ) {
    const want = Math.min(buffer.length, length - done);
    const n = node.read(buffer.subarray(0, want), offset + done);
    // The inode promised more: the archive must keep its shape all the same.
    if (n === 0) {
      buffer.fill(0, 0, want);
      yield buffer.subarray(0, want);
      done += want;
      continue;
    }
    yield buffer.subarray(0, n);
    done += n;
  }
}
