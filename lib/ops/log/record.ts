import { type JournalEntry, journalJson } from '../../artifact/journal/index.js';
import { encodeName, hasInvalidBytes } from '../../core/text.js';

/** One message of a guest, from the journal or from a line of text. */
export interface LogRecord {
  /** µs since 1970; undefined for text without a time that we understand. */
  readonly time: number | undefined;
  /** When the journal took it, not when its sender says it was sent. */
  readonly taken?: number;
  readonly hostname: string | undefined;
  readonly identifier: string | undefined;
  readonly pid: string | undefined;
  /** The process as the kernel named it to the journal, not as a message claims. */
  readonly trustedPid?: string | undefined;
  readonly priority: number | undefined;
  readonly bootId: string | undefined;
  readonly kernel: boolean;
  readonly units: readonly string[];
  readonly message: string | undefined;
  /** The line as it stands in the file. */
  readonly line?: string;
  /** As `journalctl -o json` has it. */
  json(): Record<string, unknown>;
}

/** A journal entry's fields are looked up when they are asked for. */
export class JournalRecord implements LogRecord {
  constructor(readonly entry: JournalEntry) {}
  /** The time that the sender gave, as journalctl shows it, else the one at which the journal took it. */
  get time(): number {
    const sent = Number(this.entry.get('_SOURCE_REALTIME_TIMESTAMP'));
    return sent > 0 && Number.isSafeInteger(sent) ? sent : this.entry.realtime;
  }
  get taken(): number {
    return this.entry.realtime;
  }
  get hostname() {
    return this.entry.get('_HOSTNAME');
  }
  get identifier() {
    return this.entry.get('SYSLOG_IDENTIFIER') ?? this.entry.get('_COMM');
  }
  get trustedPid() {
    return this.entry.get('_PID');
  }
  get pid() {
    return this.entry.get('_PID') ?? this.entry.get('SYSLOG_PID');
  }
  get priority() {
    const p = this.entry.get('PRIORITY');
    return p !== undefined && /^[0-7]$/.test(p) ? Number(p) : undefined;
  }
  get bootId() {
    return this.entry.bootId;
  }
  get kernel() {
    return this.entry.get('_TRANSPORT') === 'kernel';
  }
  get units() {
    const out: string[] = [];
    for (const f of this.entry.fields) if (UNIT_FIELDS.has(f.name)) out.push(f.text);
    return out;
  }
  get message() {
    return this.entry.get('MESSAGE');
  }
  json() {
    return journalJson(this.entry);
  }
}
/** The unit itself, and what others say of it. */
const UNIT_FIELDS: ReadonlySet<string> = new Set([
  '_SYSTEMD_UNIT',
  '_SYSTEMD_USER_UNIT',
  'UNIT',
  'USER_UNIT',
  'OBJECT_SYSTEMD_UNIT',
  'COREDUMP_UNIT',
]);

/** A line of a text log, taken apart as far as it has the form of syslog. */
export interface TextRecord extends LogRecord {
  readonly line: string;
}

/** Bytes that are no UTF-8 as the journal's JSON has them: a list of numbers. */
export const jsonText = (s: string): string | number[] => (hasInvalidBytes(s) ? Array.from(encodeName(s)) : s);
