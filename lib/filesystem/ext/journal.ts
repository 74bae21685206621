import type { WritableSource } from '../../block/source.js';
import { hex } from '../../core/errors.js';
import { crc32be, JournalLog, type Tag } from './journal-log.js';
import { CommitHeader, JBD2_MAGIC, JOURNAL_BLOCK, JournalHeader } from './structs.js';
import type { Volume } from './volume.js';

export interface Replay {
  readonly transactions: number;
  readonly blocks: number;
  /** The transaction that fast commits, if there are any, continue. */
  readonly nextSequence: number;
  readonly log: JournalLog;
}

/** One block of the log with what it is, in the order of writing. */
type Step =
  | { readonly kind: 'data'; readonly tag: Tag; readonly at: number; readonly sequence: number }
  | { readonly kind: 'revoke'; readonly block: Uint8Array; readonly sequence: number };

const CRC32_TYPE = 1;

/**
 * Writes what complete transactions of the journal say onto `target`, in memory: the image itself is not changed.
 * Three passes like the kernel's: how far the log is valid, what was revoked, then the blocks.
 */
export function replayJournal(volume: Volume, target: WritableSource): Replay {
  const log = new JournalLog(volume);
  if (log.start === 0) return { transactions: 0, blocks: 0, nextSequence: log.sequence, log };
  const end = scan(volume, log);
  const revoked = new Map<number, number>();
  for (const step of steps(log, end)) {
    if (step.kind !== 'revoke') continue;
    for (const block of log.revoked(step.block)) {
      const before = revoked.get(block);
      if (before === undefined || isLater(step.sequence, before)) revoked.set(block, step.sequence);
    }
  }
  let blocks = 0;
  for (const step of steps(log, end)) {
    if (step.kind !== 'data') continue;
    const { target: block, escaped } = step.tag;
    const upTo = revoked.get(block);
    if (upTo !== undefined && !isLater(step.sequence, upTo)) continue;
    const data = log.block(step.at);
    if (!log.tagOk(step.tag, data, step.sequence)) {
      volume.report(`journal: the copy of block ${block} in journal block ${step.at} has a wrong checksum and is not replayed`);
      continue;
    }
    if (block >= volume.sb.blocks) {
      volume.report(`journal: journal block ${step.at} is for block ${block}, outside the filesystem`);
      continue;
    }
    if (escaped) new DataView(data.buffer).setUint32(0, JBD2_MAGIC);
    target.write(data, block * log.blockSize);
    blocks++;
  }
  return { transactions: (end - log.sequence) >>> 0, blocks, nextSequence: end, log };
}

/** Sequence numbers wrap around. */
const isLater = (a: number, b: number): boolean => ((a - b) | 0) > 0;

/** The blocks of all transactions before `end`. */
function* steps(log: JournalLog, end: number): Generator<Step> {
  let sequence = log.sequence;
  for (let at = log.start, used = 0; sequence !== end && used < log.end; used++) {
    const block = log.block(at);
    const h = JournalHeader.at(block);
    if (h.magic !== JBD2_MAGIC || h.sequence !== sequence) return;
    at = log.next(at);
    if (h.blocktype === JOURNAL_BLOCK.commit) sequence = (sequence + 1) >>> 0;
    else if (h.blocktype === JOURNAL_BLOCK.revoke) yield { kind: 'revoke', block, sequence };
    else if (h.blocktype === JOURNAL_BLOCK.descriptor) {
      for (const tag of log.tags(block)) {
        yield { kind: 'data', tag, at, sequence };
        at = log.next(at);
        used++;
      }
    } else return;
  }
}

/** The sequence number of the first transaction that is not complete. */
function scan(volume: Volume, log: JournalLog): number {
  let sequence = log.sequence;
  let lastTime = 0;
  // A wrong checksum before the commit block: damage, unless the commit shows the blocks to be left from an older round.
  let suspect = false;
  let sum = 0xffffffff;
  for (let at = log.start, used = 0; used < log.end - log.first; used++) {
    const block = log.block(at);
    const h = JournalHeader.at(block);
    if (h.magic !== JBD2_MAGIC || h.sequence !== sequence) break;
    const here = at;
    at = log.next(at);
    if (h.blocktype === JOURNAL_BLOCK.descriptor) {
      if (!log.tailOk(block)) suspect = true;
      if (log.csum === 1) sum = crc32be(block, sum);
      for (const _ of log.tags(block)) {
        if (log.csum === 1) sum = crc32be(log.block(at), sum);
        at = log.next(at);
        used++;
      }
    } else if (h.blocktype === JOURNAL_BLOCK.revoke) {
      if (!log.tailOk(block)) suspect = true;
    } else if (h.blocktype === JOURNAL_BLOCK.commit) {
      const c = CommitHeader.at(block);
      const time = c.commitSecHi * 2 ** 32 + c.commitSecLo;
      const unsummed = c.chksumType === 0 && c.chksumSize === 0 && c.chksum === 0;
      const sumOk = log.csum !== 1 || unsummed || (c.chksumType === CRC32_TYPE && c.chksumSize === 4 && c.chksum === sum);
      if (suspect || !sumOk || !log.commitOk(block)) {
        if (time >= lastTime)
          volume.report(
            `journal: transaction ${sequence}, committed in journal block ${here} (${hex(here * log.blockSize)}), has a wrong checksum; it and what follows is not replayed`,
          );
        break;
      }
      lastTime = time;
      sum = 0xffffffff;
      sequence = (sequence + 1) >>> 0;
    } else break;
  }
  return sequence;
}
