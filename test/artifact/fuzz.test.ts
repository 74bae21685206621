import { expect, it } from 'vitest';
import { JournalFile } from '../../lib/artifact/journal/index.js';
import { rpmPackages } from '../../lib/artifact/rpm/index.js';
import * as journal from '../fuzz/journal.fuzz.js';
import * as packages from '../fuzz/packages.fuzz.js';
import * as rpmdb from '../fuzz/rpmdb.fuzz.js';

it('the seeds are whole: a mutation of what cannot be read shows nothing', () => {
  for (const bytes of rpmdb.seeds()) {
    const problems: string[] = [];
    const found = rpmPackages(bytes, { problems });
    expect(found.map((p) => [p.name, p.epoch, p.version, p.release, p.summary])).toEqual(
      ['first', 'second', 'third'].map((n) => [n, 7, '1.2', '3', 'summary']),
    );
    expect(problems).toEqual([]);
  }
  for (const compact of [false, true]) {
    const bytes = journal.journal(compact);
    const j = new JournalFile({
      size: bytes.length,
      read: (into, offset) => {
        into.set(bytes.subarray(offset, offset + into.length));
        return Math.min(into.length, bytes.length - offset);
      },
    });
    const entries = [...j.entries()];
    expect(entries.map((e) => e.fields.map((f) => f.name).join())).toEqual([
      ...Array(3).fill('_HOSTNAME,MESSAGE,MESSAGE'),
      ...Array(2).fill('_HOSTNAME,M,BINARY'),
    ]);
    expect(entries[4]!.get('M')).toBe('a'.repeat(18));
    expect(j.problems).toEqual([]);
  }
});
it('rpm databases survive 3000 mutations', () => rpmdb.fuzz(3000, 1));
it('journals survive 2000 mutations', () => journal.fuzz(2000, 1));
it('package texts survive 3000 mutations', () => packages.fuzz(3000, 1));
