import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isWritable } from '../../lib/block/source.js';
import type { FileSystemDriver } from '../../lib/filesystem/driver.js';
import { checksumFault, checksumOf } from '../../lib/filesystem/xfs/checksum.js';
import { xfs } from '../../lib/filesystem/xfs/index.js';
import { mounted, whyNoMount } from '../conformance/filesystem.js';
import { hasTool, run } from '../helpers/needs.js';
import { fuzzFilesystem } from './filesystem-mutations.js';

/** Fills what a root user's kernel can: extents in trees, attributes of all forms, long links. */
function fill(point: string): void {
  for (const [name, count] of [
    ['block', 30],
    ['node', 700],
  ] as const) {
    mkdirSync(join(point, name));
    for (let i = 0; i < count; i++) writeFileSync(join(point, name, `a-name-that-takes-room-${i}`), '');
  }
  const pieces = openSync(join(point, 'pieces'), 'w');
  try {
    for (let i = 0; i < 120; i++) writeSync(pieces, new Uint8Array(1024).fill(i), 0, 1024, i * 2048);
  } finally {
    closeSync(pieces);
  }
  symlinkSync('s'.repeat(900), join(point, 'slow'));
  symlinkSync('fast', join(point, 'quick'));
  if (!hasTool('setfattr')) return;
  for (const [name, count, bytes] of [
    ['short', 1, 5],
    ['leaf', 3, 200],
    ['node', 40, 150],
    ['remote', 2, 9000],
  ] as const) {
    const path = join(point, `attributes-${name}`);
    writeFileSync(path, name);
    const lines = Array.from({ length: count }, (_, i) => `user.attribute-${i}="${'v'.repeat(bytes)}"`);
    run('setfattr', ['--restore=-'], { input: `# file: ${path}\n${lines.join('\n')}\n`, cwd: '/' });
  }
}

/** The same without the kernel, for version 4: files between the names, so that the directory is in many pieces. */
function prototype(dir: string): string {
  const small = join(dir, 'small');
  writeFileSync(small, 'x'.repeat(700));
  const lines = ['/', '0 0', 'd--755 0 0', 'many d--755 0 0'];
  for (let i = 0; i < 500; i++) lines.push(`a-name-that-needs-some-room-${i} ---644 0 0 ${small}`);
  lines.push('$', 'short d--755 0 0', 'one p--644 0 0', '$', `link l--777 0 0 /${'long/'.repeat(120)}`, '$');
  writeFileSync(join(dir, 'prototype'), `${lines.join('\n')}\n`);
  return join(dir, 'prototype');
}

interface Seeds {
  readonly v4: readonly Uint8Array[];
  readonly v5: readonly Uint8Array[];
}
let made: Seeds | undefined;
function seeds(): Seeds {
  if (made !== undefined) return made;
  const dir = mkdtempSync('/tmp/guestwright-fuzz-');
  const image = join(dir, 'image');
  const mkfs = (options: readonly string[]) => {
    rmSync(image, { force: true });
    run('truncate', ['-s', '20M', image]);
    run('mkfs.xfs', ['--unsupported', '-q', ...options, image]);
  };
  try {
    mkfs(['-m', 'crc=0', '-b', 'size=512', '-p', prototype(dir)]);
    const set = [20, 300, 5000].flatMap((n) => ['-c', 'path /short', '-c', `attr_set -v ${n} name-${n}`]);
    run('xfs_db', ['-x', ...set, image]);
    const v4 = [readFileSync(image)];
    const v5: Uint8Array[] = [];
    if (whyNoMount() === '') {
      mkfs(['-b', 'size=1024']);
      mounted(image, 'rw', fill);
      v5.push(readFileSync(image));
    }
    mkfs(['-b', 'size=1024', '-n', 'version=ci', '-p', prototype(dir)]);
    v5.push(readFileSync(image));
    made = { v4, v5 };
    return made;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Sealed {
  readonly at: number;
  readonly length: number;
  readonly crcAt: number;
}
const BLOCK = 1024;
const INODE = 512;

/** The structures of an image that carry a checksum, by their magic numbers. */
function sealedParts(b: Uint8Array): Sealed[] {
  const out: Sealed[] = [];
  const d = new DataView(b.buffer, b.byteOffset, b.length);
  const words = new Map([
    [0x58465342, [512, 224]],
    [0x58444233, [BLOCK, 4]],
    [0x58444433, [BLOCK, 4]],
    [0x424d4133, [BLOCK, 64]],
    [0x58534c4d, [BLOCK, 12]],
    [0x5841524d, [BLOCK, 12]],
  ]);
  for (let at = 0; at + BLOCK <= b.length; at += 512) {
    const type = d.getUint16(at + 8);
    const [length, crcAt] =
      words.get(d.getUint32(at)) ??
      (d.getUint16(at) === 0x494e ? [INODE, 100] : [0x3ebe, 0x3df1, 0x3dff, 0x3bee].includes(type) ? [BLOCK, 12] : [0, 0]);
    if (length! > 0 && checksumFault(b.subarray(at, at + length!), crcAt!) === undefined)
      out.push({ at, length: length!, crcAt: crcAt! });
  }
  return out;
}

/** XFS on images whose checksums are put right after the damage: what a checksum would catch is not what is looked for. */
function sealing(parts: readonly Sealed[]): FileSystemDriver {
  return {
    ...xfs,
    open(source) {
      if (!isWritable(source)) throw new TypeError('not writable');
      for (const { at, length, crcAt } of parts) {
        const b = new Uint8Array(length);
        source.read(b, at);
        const crc = new Uint8Array(4);
        new DataView(crc.buffer).setUint32(0, checksumOf(b, crcAt), true);
        if (checksumFault(b, crcAt) !== undefined) source.write(crc, at + crcAt);
      }
      return xfs.open(source);
    },
  };
}

export function fuzz(iterations: number, seed: number): void {
  const { v4, v5 } = seeds();
  const share = Math.ceil(iterations / (v5.length + 2));
  fuzzFilesystem(xfs, v4, share, seed);
  fuzzFilesystem(xfs, v5, share, seed);
  for (const image of v5) fuzzFilesystem(sealing(sealedParts(image)), [image], share, seed);
}
