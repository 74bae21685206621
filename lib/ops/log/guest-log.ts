import { type JournalEntry, JournalFile, mergeEntries } from '../../artifact/journal/index.js';
import { explain, GuestError, usage } from '../../core/errors.js';
import type { Tree } from '../../filesystem/walk.js';
import { type LogFile, logLines, textLogs } from './files.js';
import { filterOf, type LogFilter } from './filter.js';
import { JournalRecord, type LogRecord } from './record.js';
import { SyslogReader } from './syslog.js';

export interface Boot {
  readonly id: string;
  /** µs since 1970. */
  readonly first: number;
  readonly last: number;
}

export interface LogOptions {
  /** Rotated text logs too. */
  readonly all?: boolean;
  /** Text logs even where there is a journal. */
  readonly text?: boolean;
}

/** Where a reader of a growing log stands. */
export interface LogPosition {
  /** Journal: the last number seen of each counting daemon. */
  readonly seqnums: Map<string, number>;
  /** Text: the file's inode and the bytes seen of it. */
  text?: { readonly ino: bigint; readonly offset: number };
}

/** A guest's log: its journal, or the text files that syslog writes. */
export class GuestLog {
  readonly problems: string[] = [];
  readonly journals: readonly JournalFile[];
  readonly texts: readonly LogFile[];

  constructor(tree: Tree, options: LogOptions = {}) {
    const journals = options.text ? [] : openJournals(tree, this.problems);
    this.journals = journals.some((j) => j.entryCount > 0) ? journals : [];
    this.texts = this.journals.length > 0 ? [] : textLogs(tree, options.all ?? false);
    if (this.journals.length + this.texts.length === 0) {
      const why = this.problems.length === 0 ? '' : ` (${this.problems.join('; ')})`;
      throw new GuestError('not-found', `the guest has no journal in /var/log/journal and no /var/log/syslog or messages${why}`);
    }
  }

  get kind(): 'journal' | 'text' {
    return this.journals.length > 0 ? 'journal' : 'text';
  }

  /** The boots of the journal in their order. */
  boots(): readonly Boot[] {
    const out = new Map<string, { id: string; first: number; last: number }>();
    let current: { id: string; first: number; last: number } | undefined;
    for (const e of mergeEntries(this.journals)) {
      if (current?.id !== e.bootId) {
        current = out.get(e.bootId) ?? { id: e.bootId, first: e.realtime, last: e.realtime };
        out.set(e.bootId, current);
      }
      current.last = e.realtime;
    }
    return [...out.values()];
  }

  /** A boot as journalctl names it: 0 the last, -1 the one before, 1 the first, or its ID with an offset. */
  boot(name: string): string {
    if (this.kind !== 'journal') throw new GuestError('unsupported', 'a text log does not know boots (--boot needs a journal)');
    const m = /^(?:([0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})(?=$|[+-]))?([+-]?\d{1,6})?$/i.exec(name);
    if (m === null) throw usage(`--boot: "${name}" is neither a number nor the ID of a boot`);
    const id = m[1]?.replaceAll('-', '').toLowerCase();
    const boots = this.boots();
    const offset = Number(m[2] ?? 0);
    const from = id === undefined ? (offset > 0 ? -1 : boots.length - 1) : boots.findIndex((b) => b.id === id);
    const found = id !== undefined && from < 0 ? undefined : boots[from + offset];
    if (found === undefined)
      throw new GuestError('not-found', `no boot "${name}" is in the journal (it has ${boots.length}; --list-boots shows them)`);
    return found.id;
  }

  /** Records that the filter lets pass, oldest first.  `position` says where to go on, and is moved to the end. */
  *records(filter: LogFilter = {}, position?: LogPosition): Generator<LogRecord> {
    const wanted = filterOf(filter);
    if (this.kind === 'journal') {
      for (const entry of this.#newEntries(position)) {
        // Without a look at the fields, which are what costs.
        if (filter.bootId !== undefined && entry.bootId !== filter.bootId) continue;
        const r = new JournalRecord(entry);
        if (wanted(r)) yield r;
      }
      for (const j of this.journals) for (const p of j.problems) this.problems.push(`${j.label}: ${p}`);
      return;
    }
    if (filter.bootId !== undefined)
      throw new GuestError('unsupported', 'a text log does not know boots (--boot needs a journal)');
    let withPriority = false;
    let any = false;
    for (const file of this.texts) {
      try {
        for (const r of this.#textRecords(file, position)) {
          any = true;
          withPriority ||= r.priority !== undefined;
          if (wanted(r)) yield r;
        }
      } catch (e) {
        // One rotated file that cannot be unpacked must not hide the others.
        if (!(e instanceof GuestError) || e.code === 'io') throw e;
        this.problems.push(explain(e));
      }
    }
    if (filter.priorities !== undefined && any && !withPriority)
      throw new GuestError('unsupported', `${this.texts.at(-1)!.path} does not record priorities (--priority needs a journal)`);
  }

  *#newEntries(position: LogPosition | undefined): Generator<JournalEntry> {
    for (const e of mergeEntries(this.journals)) {
      if (position !== undefined) {
        if (e.seqnum <= (position.seqnums.get(e.file.seqnumId) ?? 0)) continue;
        position.seqnums.set(e.file.seqnumId, e.seqnum);
      }
      yield e;
    }
  }

  *#textRecords(file: LogFile, position: LogPosition | undefined): Generator<LogRecord> {
    const stat = file.node.stat();
    const current = file === this.texts.at(-1);
    let from = 0;
    if (position?.text !== undefined) {
      // Only the current file grows; one that was replaced or cut is read from its start.
      if (!current) return;
      if (position.text.ino === file.node.ino && position.text.offset <= stat.size) from = position.text.offset;
    }
    const reader = new SyslogReader(file.path, new Date(stat.mtime.sec * 1000));
    let end = from;
    for (const { line, position: next } of logLines(file, from)) {
      end = next;
      yield reader.record(line);
    }
    if (position !== undefined && current) position.text = { ino: file.node.ino, offset: end };
  }
}

/** Every journal file below /var/log/journal: current, archived and set aside as damaged; of the machine and its users. */
function openJournals(tree: Tree, problems: string[]): JournalFile[] {
  const out: JournalFile[] = [];
  for (const dir of ['/var/log/journal', '/run/log/journal'])
    for (const machine of tree.names(dir)) {
      // A folder is named after a machine; a name behind a dot is a namespace of its own.
      if (!/^[0-9a-fA-F]{32}$/.test(machine.replaceAll('-', ''))) continue;
      for (const name of tree.names(`${dir}/${machine}`)) {
        const path = `${dir}/${machine}/${name}`;
        if (!/\.journal~?$/.test(name) || !tree.isFile(path)) continue;
        const { node } = tree.get(path);
        try {
          out.push(new JournalFile({ size: node.stat().size, read: (into, offset) => node.read(into, offset) }, path));
        } catch (e) {
          if (!(e instanceof GuestError) || e.code === 'io') throw e;
          problems.push(`${path}: ${e.message}`);
        }
      }
    }
  return out;
}
