import { fstatSync } from 'node:fs';
import type { BlockSource, Run } from '../../block/source.js';

const files = new Map<number, string>();
/** Device and inode of an open file.  Descriptors are reused, so what is known ends with `forgetFiles`. */
function fileOf(fd: number): string {
  let id = files.get(fd);
  if (id === undefined) {
    const st = fstatSync(fd);
    id = `${st.dev}:${st.ino}`;
    files.set(fd, id);
  }
  return id;
}
export const forgetFiles = (): void => files.clear();

/** The run at `offset`; past the end of a shorter disk there are zeroes. */
export function runAt(source: BlockSource, offset: number, length: number): Run {
  const inside = source.size - offset;
  return inside > 0 ? source.map(offset, Math.min(length, inside)) : { kind: 'zero', length };
}

/** Bytes at `offset` that cannot differ: zero in both, or the same bytes of the same file. */
export function sameRun(a: BlockSource, b: BlockSource, offset: number, length: number): number {
  const x = runAt(a, offset, length);
  const y = runAt(b, offset, length);
  const n = Math.min(x.length, y.length);
  if (x.kind === 'zero' && y.kind === 'zero') return n;
  if (x.kind === 'host' && y.kind === 'host' && x.offset === y.offset && fileOf(x.fd) === fileOf(y.fd)) return n;
  return 0;
}
