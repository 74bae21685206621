import type { JournalEntry } from './entry.js';
import type { JournalFile } from './file.js';

/**
 * The order of two entries of different files: by number when one daemon counted both, else by the boot's clock, else by the
 * time of day, which may have been set in between.
 */
export function compareEntries(a: JournalEntry, b: JournalEntry): number {
  if (a.file.seqnumId === b.file.seqnumId) {
    if (a.seqnum !== b.seqnum) return a.seqnum - b.seqnum;
  }
  if (a.bootId === b.bootId && a.monotonic !== b.monotonic) return a.monotonic - b.monotonic;
  return a.realtime - b.realtime;
}

interface Cursor {
  readonly entries: Iterator<JournalEntry>;
  head: JournalEntry;
}

/** Entries of several files in one sequence; what two files both have (a copy made at a crash) comes once. */
export function* mergeEntries(files: readonly JournalFile[]): Generator<JournalEntry> {
  const cursors: Cursor[] = [];
  for (const file of files) {
    const entries = file.entries();
    const first = entries.next();
    if (!first.done) cursors.push({ entries, head: first.value });
  }
  let last: JournalEntry | undefined;
  while (cursors.length > 0) {
    let best = 0;
    let second: JournalEntry | undefined;
    for (let i = 1; i < cursors.length; i++) {
      if (compareEntries(cursors[i]!.head, cursors[best]!.head) < 0) {
        second = cursors[best]!.head;
        best = i;
      } else if (second === undefined || compareEntries(cursors[i]!.head, second) < 0) second = cursors[i]!.head;
    }
    // Files mostly follow each other, so a cursor is kept while it stays in front.
    const cursor = cursors[best]!;
    do {
      const entry = cursor.head;
      if (last === undefined || !isSame(last, entry)) yield entry;
      last = entry;
      const next = cursor.entries.next();
      if (next.done) {
        cursors.splice(best, 1);
        break;
      }
      cursor.head = next.value;
    } while (second === undefined || compareEntries(cursor.head, second) < 0);
  }
}

const isSame = (a: JournalEntry, b: JournalEntry) =>
  a.file !== b.file &&
  a.seqnum === b.seqnum &&
  a.realtime === b.realtime &&
  a.monotonic === b.monotonic &&
  a.bootId === b.bootId &&
  a.file.seqnumId === b.file.seqnumId;
