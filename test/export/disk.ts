import { randomBytes } from 'node:crypto';
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../helpers/tmp.js';

const MiB = 1 << 20;

/** A temporary folder, new names in it, and raw disks of 24 MiB with data and holes, whose bytes are known. */
export function testDisks() {
  const dir = temporaryFolder();
  let counter = 0;
  const path = (name: string) => join(dir, `${counter++}-${name}`);

  function rawDisk(): { file: string; bytes: Buffer } {
    const file = path('disk.raw');
    const bytes = Buffer.alloc(24 * MiB);
    for (const [at, n] of [
      [0, 70_000],
      [3 * MiB + 512, 300_000],
      [17 * MiB, MiB],
      [24 * MiB - 1000, 1000],
    ] as const)
      randomBytes(n).copy(bytes, at);
    const fd = openSync(file, 'w');
    truncateSync(file, bytes.length);
    for (let at = 0; at < bytes.length; at += 65536) {
      const part = bytes.subarray(at, at + 65536);
      if (part.some((b) => b !== 0)) writeSync(fd, part, 0, part.length, at);
    }
    closeSync(fd);
    return { file, bytes };
  }
  return { dir, path, rawDisk };
}
