import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, lutimesSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openFile } from '../../lib/block/file.js';
import type { FileSystem, Node } from '../../lib/filesystem/driver.js';
import { xfs } from '../../lib/filesystem/xfs/index.js';
import { entriesOf, mounted } from '../conformance/filesystem.js';
import { run } from '../helpers/needs.js';

/** An empty filesystem; `mkfs.xfs` takes no less than 300 MB unless it is told that nobody will use it. */
export function makeXfs(image: string, options: readonly string[], size = '320M'): void {
  run('truncate', ['-s', size, image]);
  run('mkfs.xfs', ['-q', '-f', ...options, image]);
}

export function withXfs<T>(image: string, body: (fs: FileSystem) => T): T {
  const source = openFile(image);
  try {
    const fs = xfs.open(source);
    try {
      return body(fs);
    } finally {
      fs.close();
    }
  } finally {
    source.close();
  }
}

/** Makes an image and lets the kernel fill it. */
export function kernelXfs(image: string, options: readonly string[], fill: (point: string) => void, size = '320M'): void {
  makeXfs(image, options, size);
  mounted(image, 'rw', fill);
}

/**
 * Names of one hash: a byte's lowest bit and the next byte's highest fall on the same bit of the hash, so flipping both
 * changes nothing.  Ten such pairs in 11 bytes.
 */
export function collidingNames(count: number): Buffer[] {
  return Array.from({ length: count }, (_, n) => {
    const b = Buffer.alloc(11, 0x40);
    for (let k = 0; k < 10; k++)
      if ((n >> k) & 1) {
        b[k] = b[k]! ^ 1;
        b[k + 1] = b[k + 1]! ^ 0x80;
      }
    return b;
  });
}

/** All directory formats, all fork formats, and names that collide. */
export function fillWithFormats(point: string, blockSize: number, reflink: boolean): void {
  for (const [name, count] of [
    ['short', 3],
    ['block', 20],
    ['leaf', 300],
    ['node', 3000],
  ] as const) {
    mkdirSync(join(point, name));
    for (let i = 0; i < count; i++) writeFileSync(join(point, name, `${name}-entry-number-${i * 7919}`), '');
  }
  // Holes in the middle of a directory, and stale entries in its index.
  execFileSync('find', [join(point, 'node'), '-name', '*[1-4]', '-delete']);
  mkdirSync(join(point, 'colliding'));
  for (const name of collidingNames(700)) writeFileSync(Buffer.concat([Buffer.from(`${point}/colliding/`), name]), '');

  const fd = openSync(join(point, 'fragmented'), 'w');
  try {
    const block = Buffer.alloc(blockSize);
    for (let i = 0; i < 2500; i++) {
      block.writeUInt32BE(i * 1_234_567);
      writeSync(fd, block, 0, blockSize, i * 2 * blockSize);
    }
    ftruncateSync(fd, 6000 * blockSize + 17);
  } finally {
    closeSync(fd);
  }
  run('fallocate', ['-l', '1000000', join(point, 'unwritten')]);
  writeFileSync(join(point, 'part-written'), '');
  run('fallocate', ['-l', '1000000', join(point, 'part-written')]);
  run('dd', [
    'if=/dev/urandom',
    `of=${join(point, 'part-written')}`,
    'bs=10000',
    'seek=20',
    'count=3',
    'conv=notrunc',
    'status=none',
  ]);
  run('fallocate', ['-n', '-o', '5000000', '-l', '100000', join(point, 'part-written')]);
  run('dd', ['if=/dev/urandom', `of=${join(point, 'whole')}`, 'bs=100003', 'count=20', 'status=none']);
  if (reflink) run('cp', ['--reflink=always', join(point, 'whole'), join(point, 'shared')]);

  for (const n of [10, 59, 160, 400, 800, 1023]) symlinkSync('t'.repeat(n), join(point, `link-${n}`));
  run('mknod', [join(point, 'device'), 'b', '259', '200000']);
  run('mkfifo', [join(point, 'pipe')]);
  lutimesSync(join(point, 'link-10'), -1_000_000_000, -2_000_000_000.5);

  attributes(point, 'attributes-short', 1, 10);
  attributes(point, 'attributes-leaf', 5, 100);
  attributes(point, 'attributes-node', 300, 180);
  attributes(point, 'attributes-remote', 4, 60000);
  attributes(point, 'attributes-largest', 1, 65536);
  writeFileSync(join(point, 'acl'), '');
  run('setfacl', ['-m', 'u:1000:rw,u:1001:r,g:100:rwx', join(point, 'acl')]);
  run('setfacl', ['-d', '-m', 'u:1000:rw', join(point, 'short')]);
}

function attributes(point: string, name: string, count: number, bytes: number): void {
  const path = join(point, name);
  writeFileSync(path, name);
  const lines = [`# file: ${path}`];
  for (let i = 0; i < count; i++) {
    const value = Buffer.alloc(bytes, `value ${i} `).toString('hex');
    lines.push(`${['user', 'trusted', 'security'][i % 3]}.attribute-${i}=0x${value}`);
  }
  run('setfattr', ['--restore=-'], { input: `${lines.join('\n')}\n`, cwd: '/' });
}

/** Looks up each name of a tree in its directory; returns those that are not found, or found as something else. */
export function namesNotFound(root: Node): string[] {
  const out: string[] = [];
  const visit = (node: Node, path: string) => {
    for (const e of entriesOf(node)) {
      if (node.child(e.name)?.ino !== e.ino) out.push(`${path}/${e.name}`);
      if (e.kind === 'directory') visit(e.node(), `${path}/${e.name}`);
    }
  };
  visit(root, '');
  return out;
}
