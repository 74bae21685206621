/**
 * The same cases for every filesystem driver.  A tree with all kinds of things in it is made in a host folder, turned into
 * an image by the caller, and what the driver says is held against that folder and, where the kernel can mount the image,
 * against the kernel's view of every file.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import type { BlockSource } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import { decodeName, encodeName } from '../../lib/core/text.js';
import type { Entry, FileSystem, FileSystemDriver, Node } from '../../lib/filesystem/driver.js';
import { hasTool, itIf, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

/** What a filesystem can hold; a case for what it cannot is not made. */
export interface Capabilities {
  readonly symlinks: boolean;
  readonly hardLinks: boolean;
  readonly holes: boolean;
  readonly devices: boolean;
  readonly xattrs: boolean;
  readonly acls: boolean;
  /** Names are bytes: invalid UTF-8 is kept. */
  readonly byteNames: boolean;
  /** `makeImage` keeps characters outside the basic plane. */
  readonly astralNames: boolean;
  readonly ownership: boolean;
  readonly caseSensitive: boolean;
  /** Years of times that are kept exactly, to the second; undefined when `makeImage` does not keep times. */
  readonly years?: readonly [number, number];
  readonly longestName: number;
  readonly bigDirectory: number;
}
export const UNIX: Capabilities = {
  symlinks: true,
  hardLinks: true,
  holes: true,
  devices: true,
  xattrs: true,
  acls: true,
  byteNames: true,
  astralNames: true,
  ownership: true,
  caseSensitive: true,
  years: [1902, 2400],
  longestName: 255,
  bigDirectory: 20000,
};

export interface SuiteOptions {
  readonly name: string;
  readonly driver: FileSystemDriver;
  readonly capabilities: Capabilities;
  /** Why the suite cannot run here (a missing tool); undefined when it can. */
  readonly missing?: string | undefined;
  /** Makes the file `image`, a filesystem that holds what is in `folder`. */
  makeImage(folder: string, image: string): void;
  /** Options the kernel takes to mount the image unchanged, or undefined where it cannot. */
  readonly mountOptions?: string;
}

let mountable: string | undefined;
/** Why no loop mount works here, or an empty string. */
export function whyNoMount(): string {
  if (mountable === undefined) {
    if (process.getuid?.() !== 0) mountable = 'loop mounts need root';
    else if (!hasTool('mount') || !existsSync('/dev/loop-control')) mountable = 'no loop devices here';
    else mountable = '';
  }
  return mountable;
}

/** Runs `body` with the image mounted, and unmounts it again whatever happens. */
export function mounted<T>(image: string, options: string, body: (at: string) => T): T {
  const at = mkdtempSync('/tmp/guestwright-mount-');
  try {
    run('mount', ['-o', `loop,${options}`, image, at]);
    try {
      return body(at);
    } finally {
      run('umount', [at]);
    }
  } finally {
    rmdirSync(at);
  }
}

const LONG = 'n'.repeat(200);
const NAMES = [
  'plain',
  'with space',
  'ünïcödé and more',
  '日本語のファイル',
  '🙂 emoji',
  'UPPER and lower',
  '-dash',
  'dot.dot.',
  '.hidden',
];
const INVALID = [0x62, 0x61, 0x64, 0xff, 0xfe, 0x80, 0x2e];
const SPARSE_SIZE = 9 * 1024 * 1024 + 77;
const BIG = 3 * 1024 * 1024 + 123;

/** Bytes that do not repeat, so that a block in the wrong place is seen. */
function pattern(size: number, seed: number): Uint8Array {
  const b = new Uint8Array(size);
  let x = seed;
  for (let i = 0; i < size; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    b[i] = x >>> 16;
  }
  return b;
}

/** The tree all drivers are tried with. */
export function makeTree(root: string, can: Capabilities): void {
  const file = (path: string, data: string | Uint8Array) => writeFileSync(join(root, path), data);
  mkdirSync(join(root, 'names'));
  for (const name of NAMES)
    if ((can.byteNames || !name.endsWith('.')) && (can.astralNames || !name.includes('🙂')))
      file(`names/${name}`, `content of ${name}`);
  file(`names/${LONG}`, 'long');
  file(`names/${'m'.repeat(can.longestName)}`, 'longest');
  mkdirSync(join(root, 'a/b/c/d/e/f/g'), { recursive: true });
  file('a/b/c/d/e/f/g/leaf', 'leaf\n');
  mkdirSync(join(root, 'empty-directory'));
  file('empty', '');
  file('one', '1');
  file('block', pattern(4096, 3));
  file('large', pattern(BIG, 7));
  mkdirSync(join(root, 'many'));
  for (let i = 0; i < can.bigDirectory; i++) file(`many/entry-${i}.txt`, i % 1000 === 0 ? `number ${i}` : '');
  if (can.byteNames) writeFileSync(Buffer.concat([Buffer.from(`${root}/names/`), Buffer.from(INVALID)]), 'bytes');
  if (can.holes) {
    const fd = openSync(join(root, 'sparse'), 'w');
    for (const at of [0, 1 << 20, 5 * 1024 * 1024 + 5000]) writeSync(fd, pattern(8192, at + 1), 0, 8192, at);
    ftruncateSync(fd, SPARSE_SIZE);
    closeSync(fd);
    const hole = openSync(join(root, 'all-hole'), 'w');
    ftruncateSync(hole, 100_000);
    closeSync(hole);
  }
  if (can.hardLinks) {
    file('linked', 'two names');
    linkSync(join(root, 'linked'), join(root, 'a/linked-too'));
  }
  if (can.symlinks) {
    mkdirSync(join(root, 'links'));
    symlinkSync('../one', join(root, 'links/short'));
    symlinkSync('x'.repeat(59), join(root, 'links/59'));
    symlinkSync('x'.repeat(60), join(root, 'links/60'));
    symlinkSync(`/${'very-long/'.repeat(100)}end`, join(root, 'links/long'));
    symlinkSync('loop-b', join(root, 'links/loop-a'));
    symlinkSync('loop-a', join(root, 'links/loop-b'));
    symlinkSync('日本', join(root, 'links/unicode'));
  }
  if (can.devices && process.getuid?.() === 0) {
    mkdirSync(join(root, 'dev'));
    for (const [name, type, major, minor] of [
      ['null', 'c', 1, 3],
      ['sda1', 'b', 8, 1],
      ['wide', 'b', 259, 70000],
    ] as const)
      run('mknod', [join(root, 'dev', name), type, String(major), String(minor)]);
    run('mkfifo', [join(root, 'dev/pipe')]);
  }
  if (can.xattrs && hasTool('setfattr')) {
    file('attributes', 'has attributes');
    run('setfattr', ['-n', 'user.short', '-v', 'value', join(root, 'attributes')]);
    run('setfattr', ['-n', 'user.empty', join(root, 'attributes')]);
    run('setfattr', ['-n', 'user.long', '-v', 'v'.repeat(700), join(root, 'attributes')]);
    if (process.getuid?.() === 0) {
      run('setfattr', ['-n', 'trusted.t', '-v', '0x00ff10', join(root, 'attributes')]);
      run('setfattr', ['-n', 'security.capability', '-v', '0x0100000200200000000000000000000000000000', join(root, 'one')]);
    }
  }
  if (can.acls && hasTool('setfacl')) {
    run('setfacl', ['-m', 'u:1234:rw,g:55:r,m:rwx', join(root, 'one')]);
    run('setfacl', ['-d', '-m', 'u:99:rx', join(root, 'a')]);
  }
  if (can.ownership && process.getuid?.() === 0) {
    run('chown', ['70000:80000', join(root, 'block')]);
    run('chmod', ['6751', join(root, 'block')]);
  }
  if (can.years !== undefined) {
    const [from, to] = can.years;
    utimesSync(
      join(root, 'empty'),
      Date.UTC(Math.max(from, 1960), 3, 5) / 1000,
      Date.UTC(Math.max(from, 1965), 1, 3, 4, 5, 6) / 1000,
    );
    utimesSync(
      join(root, 'large'),
      Date.UTC(Math.min(to, 2100), 3, 5) / 1000,
      Date.UTC(Math.min(to, 2099), 1, 3, 4, 5, 6) / 1000,
    );
  }
}

const sha = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');

/** A whole file through `read`, in pieces of an odd size so that blocks are crossed. */
export function contentsOf(node: Node): Uint8Array {
  const { size } = node.stat();
  const out = new Uint8Array(size);
  const step = 100_003;
  for (let at = 0; at < size; ) {
    const n = node.read(out.subarray(at, Math.min(size, at + step)), at);
    if (n === 0) break;
    at += n;
  }
  return out;
}

/** The same bytes through `runs`: host runs from the image file, everything else from the source. */
export function contentsByRuns(node: Node, image: string): Uint8Array {
  const { size } = node.stat();
  const out = new Uint8Array(size);
  const disk = openSync(image, 'r');
  let at = 0;
  for (const r of node.runs(0, size)) {
    if (r.kind === 'host') readSync(disk, out, at, r.length, r.offset);
    else if (r.kind === 'computed') node.read(out.subarray(at, at + r.length), at);
    at += r.length;
  }
  closeSync(disk);
  expect(at, 'the sum of runs is the size').toBe(size);
  return out;
}

export function entriesOf(node: Node): Entry[] {
  const out: Entry[] = [];
  for (const list of node.entries()) out.push(...list);
  return out;
}
export const namesOf = (node: Node): string[] =>
  entriesOf(node)
    .map((e) => e.name)
    .sort();

export function at(root: Node, path: string): Node {
  let node = root;
  for (const part of path.split('/').filter((p) => p !== '')) {
    const next = node.child(part);
    if (next === undefined) throw new Error(`${path}: no ${part}`);
    node = next;
  }
  return node;
}

const hostNames = (folder: string): string[] =>
  readdirSync(Buffer.from(folder), { encoding: 'buffer' })
    .map((b) => decodeName(b))
    .sort();

/** Attributes of a file and all below it, as getxattr gives them, by the `getfattr` tool; keys are paths in latin1. */
export function hostAttributes(path: Buffer): Map<string, Record<string, string>> {
  const r = spawnSync('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', path.toString()], {
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  const out = new Map<string, Record<string, string>>();
  let current: Record<string, string> = {};
  for (const line of r.stdout.split('\n')) {
    const file = /^# file: (.*)$/.exec(line);
    const m = /^([^#=]+)=0x([0-9a-f]*)$/.exec(line) ?? /^([^#=]+)$/.exec(line);
    if (file !== null) {
      current = {};
      out.set(
        file[1]!.replace(/\\([0-7]{3})/g, (_, o) => String.fromCharCode(Number.parseInt(o, 8))),
        current,
      );
    } else if (m !== null && !m[1]!.startsWith('trusted.SGI_ACL_')) current[m[1]!] = m[2] ?? ''; // XFS shows root an ACL twice
  }
  return out;
}
export const attributesOf = (node: Node): Record<string, string> =>
  Object.fromEntries([...node.attributes()].map(([k, v]) => [k, Buffer.from(v).toString('hex')]));

/** Holds every file of a filesystem against the kernel's view of it; returns what differs, one line each. */
export function differencesFromMount(
  root: Node,
  mountPoint: string,
  options: { readonly skipTimesOf?: 'directories' } = {},
): string[] {
  const out: string[] = [];
  const nanoseconds = (t: { sec: number; nsec: number }) => BigInt(t.sec) * 1_000_000_000n + BigInt(t.nsec);
  const theirAttributes = hasTool('getfattr') ? hostAttributes(Buffer.from(mountPoint)) : undefined;
  const compare = (node: Node, path: Buffer, shown: string) => {
    const theirs = lstatSync(path, { bigint: true });
    const ours = node.stat();
    const pairs: [string, bigint | number, bigint][] = [
      ['ino', ours.ino, theirs.ino],
      ['mode', ours.mode, theirs.mode],
      ['links', ours.links, theirs.nlink],
      ['uid', ours.uid, theirs.uid],
      ['gid', ours.gid, theirs.gid],
      ['size', ours.size, theirs.size],
      ['blocks', ours.blocks, theirs.blocks],
    ];
    if (options.skipTimesOf !== 'directories' || node.kind !== 'directory')
      pairs.push(['mtime', nanoseconds(ours.mtime), theirs.mtimeNs], ['ctime', nanoseconds(ours.ctime), theirs.ctimeNs]);
    for (const [what, a, b] of pairs) if (BigInt(a) !== b) out.push(`${shown}: ${what} is ${a}, the kernel says ${b}`);
    if (ours.rdev !== undefined) {
      const d = theirs.rdev;
      const major = ((d >> 8n) & 0xfffn) | ((d >> 32n) & ~0xfffn);
      const minor = (d & 0xffn) | ((d >> 12n) & ~0xffn);
      if (BigInt(ours.rdev.major) !== major || BigInt(ours.rdev.minor) !== minor)
        out.push(`${shown}: device ${ours.rdev.major}:${ours.rdev.minor}, the kernel says ${major}:${minor}`);
    }
    if (node.kind === 'symlink') {
      const target = decodeName(readlinkSync(path, { encoding: 'buffer' }));
      if (node.target() !== target) out.push(`${shown}: leads to ${node.target()}, the kernel says ${target}`);
    }
    if (node.kind === 'file' && sha(contentsOf(node)) !== sha(readFileSync(path))) out.push(`${shown}: contents differ`);
    if (theirAttributes !== undefined) {
      const a = JSON.stringify(Object.entries(attributesOf(node)).sort());
      const b = JSON.stringify(Object.entries(theirAttributes.get(path.toString('latin1')) ?? {}).sort());
      if (a !== b) out.push(`${shown}: attributes ${a}, the kernel says ${b}`);
    }
    if (node.kind !== 'directory') return;
    const entries = entriesOf(node);
    const mine = entries.map((e) => e.name).sort();
    const kernel = readdirSync(path, { encoding: 'buffer' })
      .map((b) => decodeName(b))
      .sort();
    if (JSON.stringify(mine) !== JSON.stringify(kernel))
      out.push(
        `${shown}: names differ: ${JSON.stringify(mine.filter((n) => !kernel.includes(n)))} against ${JSON.stringify(kernel.filter((n) => !mine.includes(n)))}`,
      );
    for (const e of entries) compare(e.node(), Buffer.concat([path, Buffer.from('/'), encodeName(e.name)]), `${shown}/${e.name}`);
  };
  compare(root, Buffer.from(mountPoint), '');
  return out;
}

/** Asks everything a caller could ask of each node; errors of ours are answers, anything else comes out. */
export function walkAll(open: () => Node, buffer: Uint8Array, most = 3000): number {
  let nodes = 0;
  const ours = (body: () => void) => {
    try {
      body();
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
    }
  };
  const visit = (node: Node, depth: number) => {
    if (++nodes > most || depth > 50) return;
    ours(() => void node.stat());
    ours(() => void node.attributes());
    ours(() => void node.target());
    ours(() => {
      node.read(buffer, 0);
      const size = node.stat().size;
      node.read(buffer, Math.max(0, size - 1000));
      let n = 0;
      for (const _ of node.runs(0, size)) if (++n > 100) break;
    });
    ours(() => {
      for (const list of node.entries())
        for (const e of list) {
          if (nodes > most) return;
          ours(() => void node.child(e.name));
          ours(() => visit(e.node(), depth + 1));
        }
    });
  };
  ours(() => visit(open(), 0));
  return nodes;
}

/** `df`'s numbers from the kernel: size, free, available, inodes, free inodes. */
export function kernelUsage(mountPoint: string): number[] {
  return run('stat', ['-f', '-c', '%S %b %f %a %c %d', mountPoint]).trim().split(' ').map(Number);
}

const code = (body: () => unknown): string => {
  try {
    body();
  } catch (e) {
    return e instanceof GuestError ? e.code : `not a GuestError: ${e}`;
  }
  return 'no error';
};

/** All cases for one driver and one way to make its images. */
export function filesystemSuite(options: SuiteOptions): void {
  const { capabilities: can, driver } = options;
  const test = itIf(options.missing === undefined, options.missing ?? '');
  describe(options.name, () => {
    const dir = temporaryFolder();
    const folder = join(dir, 'tree');
    const image = join(dir, 'image');
    let source: BlockSource;
    let fs: FileSystem;
    let root: Node;
    beforeAll(() => {
      if (options.missing !== undefined) return;
      mkdirSync(folder);
      makeTree(folder, can);
      options.makeImage(folder, image);
      source = openFile(image);
      fs = driver.open(source);
      root = fs.root;
    }, 60_000);
    afterAll(() => {
      fs?.close();
      source?.close();
    });

    test('is recognised, has a directory as its root and no problems', () => {
      expect(driver.probe(source)).toEqual(fs.signature);
      expect(root.kind).toBe('directory');
      expect(fs.problems).toEqual([]);
      expect(fs.caseSensitive).toBe(can.caseSensitive);
    });

    test('lists the root and nested directories', () => {
      expect(namesOf(root).filter((n) => n !== 'lost+found')).toEqual(hostNames(folder));
      expect(namesOf(at(root, 'a/b/c/d/e/f'))).toEqual(['g']);
      expect(Buffer.from(contentsOf(at(root, 'a/b/c/d/e/f/g/leaf'))).toString()).toBe('leaf\n');
      expect(namesOf(at(root, 'empty-directory'))).toEqual([]);
    });

    test('keeps long and non-ASCII names, and finds each again', () => {
      const names = namesOf(at(root, 'names'));
      expect(names).toEqual(hostNames(join(folder, 'names')));
      for (const name of names) expect(at(root, 'names').child(name)?.kind, name).toBe('file');
      if (can.byteNames) expect(names).toContain(decodeName(Uint8Array.from(INVALID)));
    });

    test('gives every entry the kind and number its node has', () => {
      for (const path of ['', 'names', 'links', 'dev'])
        for (const e of root.child(path) !== undefined || path === '' ? entriesOf(at(root, path)) : [])
          expect([e.name, e.kind, e.ino]).toEqual([e.name, e.node().kind, e.node().ino]);
    });

    test('reads whole files, parts of them, and nothing past their end', () => {
      for (const name of ['empty', 'one', 'block', 'large', ...(can.holes ? ['sparse', 'all-hole'] : [])])
        expect(sha(contentsOf(at(root, name))), name).toBe(sha(readFileSync(join(folder, name))));
      const large = at(root, 'large');
      const part = new Uint8Array(5000);
      expect(large.read(part, 4095)).toBe(5000);
      expect(sha(part)).toBe(sha(readFileSync(join(folder, 'large')).subarray(4095, 9095)));
      expect(large.read(part, BIG - 10)).toBe(10);
      expect(large.read(part, BIG)).toBe(0);
      expect(large.read(part, BIG * 100)).toBe(0);
      expect(at(root, 'empty').read(part, 0)).toBe(0);
    });

    test('says where contents lie: the runs are as long as the file and hold its bytes', () => {
      for (const name of ['empty', 'one', 'block', 'large', ...(can.holes ? ['sparse', 'all-hole'] : [])]) {
        const node = at(root, name);
        expect(sha(contentsByRuns(node, image)), name).toBe(sha(contentsOf(node)));
      }
      expect([...at(root, 'large').runs(BIG, 100)]).toEqual([]);
      const some = [...at(root, 'large').runs(1000, 5000)];
      expect(some.reduce((n, r) => n + r.length, 0)).toBe(5000);
    });

    if (can.holes)
      test('shows holes as runs of zeroes', () => {
        const zero = [...at(root, 'sparse').runs(0, SPARSE_SIZE)].filter((r) => r.kind === 'zero');
        expect(zero.reduce((n, r) => n + r.length, 0)).toBeGreaterThan(SPARSE_SIZE - 256 * 1024);
        expect([...at(root, 'all-hole').runs(0, 100_000)]).toEqual([{ kind: 'zero', length: 100_000 }]);
      });

    if (can.hardLinks)
      test('gives both names of a hard link one number', () => {
        const one = at(root, 'linked');
        expect(at(root, 'a/linked-too').ino).toBe(one.ino);
        expect(one.stat().links).toBe(2);
      });

    if (can.symlinks)
      test('gives the text of links, short and long, and does not follow them', () => {
        for (const name of hostNames(join(folder, 'links'))) {
          expect(at(root, `links/${name}`).kind).toBe('symlink');
          expect(at(root, `links/${name}`).target()).toBe(readlinkSync(join(folder, 'links', name)));
        }
        expect(code(() => at(root, 'one').target())).toBe('not-a-symlink');
      });

    if (can.devices && process.getuid?.() === 0)
      test('gives device numbers, small and large', () => {
        expect(at(root, 'dev/null').stat().rdev).toEqual({ major: 1, minor: 3 });
        expect(at(root, 'dev/sda1').stat().rdev).toEqual({ major: 8, minor: 1 });
        expect(at(root, 'dev/wide').stat().rdev).toEqual({ major: 259, minor: 70000 });
        expect(at(root, 'dev/pipe').kind).toBe('fifo');
        expect(at(root, 'dev/null').read(new Uint8Array(10), 0)).toBe(0);
      });

    if (can.xattrs && hasTool('setfattr') && hasTool('getfattr'))
      test('gives extended attributes and ACLs as getxattr does', () => {
        for (const name of ['attributes', 'one', 'a', 'empty'])
          expect(attributesOf(at(root, name)), name).toEqual(
            hostAttributes(Buffer.from(join(folder, name))).get(join(folder, name)) ?? {},
          );
      });

    if (can.ownership && process.getuid?.() === 0)
      test('gives owners above 65535 and all mode bits', () => {
        const s = at(root, 'block').stat();
        expect([s.uid, s.gid, s.mode]).toEqual([70000, 80000, 0o106751]);
      });

    if (can.years !== undefined)
      test('gives times before 1970 and after 2038 where the format has them', () => {
        for (const name of ['empty', 'large'])
          expect(at(root, name).stat().mtime.sec, name).toBe(Math.floor(lstatSync(join(folder, name)).mtimeMs / 1000));
      });

    test(`lists a directory of ${can.bigDirectory} entries and finds any of them`, () => {
      const many = at(root, 'many');
      expect(namesOf(many)).toEqual(hostNames(join(folder, 'many')));
      for (let i = 0; i < can.bigDirectory; i += can.bigDirectory / 20)
        expect(Buffer.from(contentsOf(at(root, `many/entry-${i}.txt`))).toString()).toBe(
          readFileSync(join(folder, `many/entry-${i}.txt`), 'utf8'),
        );
    });

    test('has no node for names that are not there', () => {
      for (const name of ['nothing', 'entry-', 'entry-1.tx', 'entry-1.txtt', `${'z'.repeat(300)}`, ''])
        expect(at(root, 'many').child(name), name).toBeUndefined();
      if (can.caseSensitive) expect(root.child('EMPTY')).toBeUndefined();
      else expect(root.child('EMPTY')?.ino).toBe(at(root, 'empty').ino);
    });

    test('refuses to list files and to read directories', () => {
      expect(code(() => entriesOf(at(root, 'one')))).toBe('not-a-directory');
      expect(code(() => at(root, 'one').child('x'))).toBe('not-a-directory');
      expect(code(() => root.read(new Uint8Array(1), 0))).toBe('is-a-directory');
      expect(code(() => root.target())).toBe('not-a-symlink');
    });

    if (options.mountOptions !== undefined)
      itIf(options.missing === undefined && whyNoMount() === '', options.missing ?? whyNoMount())(
        'agrees with the kernel about every file, and about the space left',
        () => {
          mounted(image, options.mountOptions!, (point) => {
            expect(differencesFromMount(root, point)).toEqual([]);
            const u = fs.usage();
            expect([u.blockSize, u.blocks, u.free, u.available, u.files, u.freeFiles]).toEqual(kernelUsage(point));
          });
        },
        60_000,
      );
    it('closes twice without complaint', () => {
      fs?.close();
      fs?.close();
    });
  });
}
