import { crc32cRaw } from '../../core/checksum.js';
import { GuestError } from '../../core/errors.js';
import type { JournalLog } from './journal-log.js';

/** What a fast commit did, as its tags say it. */
export type FastChange =
  | {
      readonly kind: 'range';
      readonly ino: number;
      readonly logical: number;
      readonly physical: number;
      readonly count: number;
      readonly unwritten: boolean;
    }
  | { readonly kind: 'hole'; readonly ino: number; readonly logical: number; readonly count: number }
  | { readonly kind: 'create' | 'link' | 'unlink'; readonly parent: number; readonly ino: number; readonly name: Uint8Array }
  | { readonly kind: 'inode'; readonly ino: number; readonly raw: Uint8Array };

const TAG = { addRange: 1, delRange: 2, create: 3, link: 4, unlink: 5, inode: 6, pad: 7, tail: 8, head: 9 } as const;
/** Shortest value of each tag. */
const LEAST: Readonly<Record<number, number>> = { 1: 16, 2: 12, 3: 9, 4: 9, 5: 9, 6: 4 + 128, 7: 0, 8: 8, 9: 8 };
const TAG_HEADER = 4;
const MAX_WRITTEN = 32768;

/** The changes of all complete fast commits that follow transaction `sequence` - 1. */
export function fastChanges(log: JournalLog, sequence: number, problem: (text: string) => void): FastChange[] {
  const done: FastChange[] = [];
  if (log.fastCommitFirst === undefined) return done;
  let open: FastChange[] = [];
  let crc = 0;
  for (let n = log.fastCommitFirst; n < log.total; n++) {
    const block = log.block(n);
    const d = new DataView(block.buffer);
    for (let o = 0; o + TAG_HEADER <= block.length; ) {
      const tag = d.getUint16(o, true);
      const length = d.getUint16(o + 2, true);
      const at = o + TAG_HEADER;
      const least = LEAST[tag];
      // Unused blocks hold zeroes or older commits: the end, and no damage.
      if (least === undefined || length < least || at + length > block.length) return done;
      const value = block.subarray(at, at + length);
      if (tag === TAG.tail) {
        crc = crc32cRaw(block.subarray(o, at + 4), crc);
        if (d.getUint32(at, true) !== sequence) return done;
        if (d.getUint32(at + 4, true) !== crc) {
          if (open.length > 0)
            problem(`journal: a fast commit in journal block ${n} has a wrong checksum; it and what follows is not replayed`);
          return done;
        }
        for (const change of open) done.push(change);
        open = [];
        crc = 0;
      } else {
        if (tag === TAG.head) {
          if (d.getUint32(at, true) !== 0)
            throw new GuestError('unsupported', `ext: fast commit feature ${d.getUint32(at, true)} is not supported`);
          if (d.getUint32(at + 4, true) !== sequence) return done;
        }
        crc = crc32cRaw(block.subarray(o, at + length), crc);
        const change = parse(tag, value);
        if (change !== undefined) open.push(change);
      }
      o = at + length;
    }
  }
  return done;
}

function parse(tag: number, value: Uint8Array): FastChange | undefined {
  const d = new DataView(value.buffer, value.byteOffset, value.length);
  const u32 = (o: number) => d.getUint32(o, true);
  const ino = u32(0);
  switch (tag) {
    case TAG.addRange: {
      const length = d.getUint16(8, true);
      const unwritten = length > MAX_WRITTEN;
      const physical = u32(12) + d.getUint16(10, true) * 2 ** 32;
      return { kind: 'range', ino, logical: u32(4), physical, count: unwritten ? length - MAX_WRITTEN : length, unwritten };
    }
    case TAG.delRange:
      return { kind: 'hole', ino, logical: u32(4), count: u32(8) };
    case TAG.create:
    case TAG.link:
    case TAG.unlink:
      return {
        kind: tag === TAG.create ? 'create' : tag === TAG.link ? 'link' : 'unlink',
        parent: ino,
        ino: u32(4),
        name: value.slice(8),
      };
    case TAG.inode:
      return { kind: 'inode', ino, raw: value.slice(4) };
    default:
      return undefined;
  }
}
