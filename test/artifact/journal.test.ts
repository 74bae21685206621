import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ByteFile, type JournalEntry, JournalFile, journalJson, mergeEntries } from '../../lib/artifact/journal/index.js';
import { GuestError } from '../../lib/core/errors.js';
import { hasTool, itIf, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntry, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { makeJournal, repack, sampleEntries, whenSystemd } from './journal-helpers.js';

const inMemory = (b: Uint8Array): ByteFile => ({
  size: b.length,
  read(into, offset) {
    const part = b.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  },
});
const open = (path: string) => new JournalFile(inMemory(readFileSync(path)));

/** Without what journalctl of this version does not print or we print besides. */
const comparable = (o: Record<string, unknown>) => {
  const { __SEQNUM, __SEQNUM_ID, ...rest } = o;
  return rest;
};
const journalctl = (...args: string[]) =>
  run('journalctl', ['-o', 'json', '--all', '--no-pager', '-q', ...args])
    .split('\n')
    .filter((l) => l !== '')
    .map((l) => comparable(JSON.parse(l)));
const ours = (entries: Iterable<JournalEntry>) => [...entries].map((e) => comparable(JSON.parse(JSON.stringify(journalJson(e)))));

describe('a journal of each kind, as journalctl -o json prints it', () => {
  for (const [name, flags, env] of [
    ['zstd, compact', 0x1c, { SYSTEMD_JOURNAL_COMPACT: '1' }],
    ['zstd, not compact', 0xc, { SYSTEMD_JOURNAL_COMPACT: '0' }],
    ['plain', 0x0, { SYSTEMD_JOURNAL_COMPRESS: '0', SYSTEMD_JOURNAL_KEYED_HASH: '0', SYSTEMD_JOURNAL_COMPACT: '0' }],
  ] as const)
    whenSystemd(name, () => {
      const file = join(temporaryFolder(), 'a.journal');
      makeJournal(file, sampleEntries(700), env);
      expect(readFileSync(file).readUInt32LE(12)).toBe(flags);
      const journal = open(file);
      const got = ours(journal.entries());
      expect(got).toEqual(journalctl('--file', file));
      expect(got.length).toBe(700);
      expect(journal.problems).toEqual([]);
    });
  for (const [kind, compact] of [
    ['xz', '0'],
    ['lz4', '1'],
  ] as const)
    whenSystemd(kind, () => {
      const file = join(temporaryFolder(), 'a.journal');
      makeJournal(file, sampleEntries(400), { SYSTEMD_JOURNAL_COMPRESS: '0', SYSTEMD_JOURNAL_COMPACT: compact });
      const bytes = readFileSync(file);
      expect(repack(bytes, kind)).toBeGreaterThan(20);
      writeFileSync(file, bytes);
      const journal = open(file);
      const got = ours(journal.entries());
      expect(got).toEqual(journalctl('--file', file));
      expect(got.length).toBe(400);
      expect(journal.problems).toEqual([]);
    });

  itIf(hasSharedData() && hasTool('journalctl'), hasSharedData() ? 'journalctl is not installed' : noSharedData)(
    'the shared journal',
    () => {
      const name = 'logs/journal/libguestfs-system.journal.zst';
      const journal = open(sharedFile(name));
      const want = sharedEntry(name)!.expected;
      const entries = [...journal.entries()];
      expect(entries.length).toBe(want.entries);
      expect([...new Set(entries.map((e) => e.bootId))].sort()).toEqual([...want.boots].sort());
      expect(entries.at(-1)!.get('MESSAGE')).toBe('Journal stopped');
      expect(ours(entries)).toEqual(journalctl('--file', sharedFile(name)));
    },
  );
});

describe('several files', () => {
  whenSystemd('are one sequence, as journalctl --directory gives it', () => {
    const dir = temporaryFolder();
    const all = sampleEntries(300);
    makeJournal(
      join(dir, 'a.journal'),
      all.filter((_, i) => i % 3 === 0),
    );
    makeJournal(
      join(dir, 'b.journal'),
      all.filter((_, i) => i % 3 === 1),
      { SYSTEMD_JOURNAL_COMPACT: '0' },
    );
    makeJournal(join(dir, 'c.journal'), all.filter((_, i) => i % 3 === 2).slice(20));
    const files = ['a', 'b', 'c'].map((f) => open(join(dir, `${f}.journal`)));
    const got = ours(mergeEntries(files));
    expect(got).toEqual(journalctl('--directory', dir));
    expect(got.length).toBe(280);
  });
  whenSystemd('entries that a second file repeats come once', () => {
    const file = join(temporaryFolder(), 'a.journal');
    makeJournal(file, sampleEntries(50));
    expect([...mergeEntries([open(file), open(file)])].length).toBe(50);
  });
});

describe('damage', () => {
  whenSystemd('a file that ends early gives its whole entries and says that it was cut off', () => {
    const file = join(temporaryFolder(), 'a.journal');
    makeJournal(file, sampleEntries(700), { SYSTEMD_JOURNAL_COMPACT: '0' });
    const bytes = readFileSync(file);
    const whole = ours(open(file).entries());
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    // Between the first list of entries and the last object; before that lie the hash tables.
    const half = Math.floor(Number(view.getBigUint64(176, true) + view.getBigUint64(136, true)) / 16) * 8;
    const journal = new JournalFile(inMemory(bytes.subarray(0, half)));
    const got = ours(journal.entries());
    expect(got.length).toBeGreaterThan(100);
    expect(got).toEqual(whole.slice(0, got.length));
    expect(journal.problems.join('\n')).toMatch(/the file is cut off: 0x[0-9a-f]+ bytes are expected/);
  });
  whenSystemd('a broken list of entries is got around by looking at each object', () => {
    const file = join(temporaryFolder(), 'a.journal');
    makeJournal(file, sampleEntries(200));
    const bytes = readFileSync(file);
    const whole = ours(open(file).entries());
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const array = Number(view.getBigUint64(176, true));
    bytes[array] = 7;
    const journal = new JournalFile(inMemory(bytes));
    expect(ours(journal.entries())).toEqual(whole);
    expect(journal.problems).toEqual([`object at 0x${array.toString(16)} has type 7, expected 6`]);
    // Arrays that lead back to themselves end as well.
    bytes[array] = 6;
    view.setBigUint64(array + 16, BigInt(array), true);
    const circle = new JournalFile(inMemory(bytes));
    expect(ours(circle.entries())).toEqual(whole);
    expect(circle.problems.join()).toMatch(/points back/);
  });
  whenSystemd('a field that cannot be unpacked is left out and named', () => {
    const file = join(temporaryFolder(), 'a.journal');
    makeJournal(file, sampleEntries(20), { SYSTEMD_JOURNAL_COMPACT: '0' });
    const bytes = readFileSync(file);
    // The zstd magic of every compressed field.
    let broken = 0;
    for (let at = bytes.indexOf('28b52ffd', 0, 'hex'); at >= 0; at = bytes.indexOf('28b52ffd', at, 'hex')) {
      bytes[at] = 0;
      broken++;
    }
    const journal = new JournalFile(inMemory(bytes));
    const messages = [...journal.entries()].map((e) => e.get('MESSAGE'));
    expect(messages.filter((m) => m === undefined).length).toBe(broken);
    expect(broken).toBe(2);
    expect(journal.problems.length).toBe(2);
    expect(journal.problems[0]).toMatch(/^field at 0x[0-9a-f]+: zstd data/);
  });
  it('refuses what is no journal, and features from the future', () => {
    expect(() => new JournalFile(inMemory(new Uint8Array(4096)))).toThrow(GuestError);
    const header = Buffer.alloc(272);
    header.write('LPKSHHRH');
    header.writeUInt32LE(0x40, 12);
    expect(() => new JournalFile(inMemory(header))).toThrow('journal feature 0x40 is not supported');
  });
});

itIf(hasSharedData(), noSharedData)('reads through pages, a little at a time, as it reads from memory', () => {
  const path = sharedFile('logs/journal/libguestfs-system.journal.zst');
  const fd = openSync(path, 'r');
  const file: ByteFile = {
    size: fstatSync(fd).size,
    read: (into, offset) => readSync(fd, into, 0, Math.min(into.length, 1000), offset),
  };
  expect(ours(new JournalFile(file).entries())).toEqual(ours(open(path).entries()));
  closeSync(fd);
});
