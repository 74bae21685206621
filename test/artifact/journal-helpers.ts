import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { hasTool, itIf } from '../helpers/needs.js';

const REMOTE = '/lib/systemd/systemd-journal-remote';
const missing = [...(hasTool('journalctl') ? [] : ['journalctl']), ...(existsSync(REMOTE) ? [] : ['systemd-journal-remote'])];
/** `it` where journals can be made and read by systemd's own programs. */
export const whenSystemd = itIf(missing.length === 0, `${missing.join(', ')} not installed`);
export const hasSystemd = missing.length === 0;

export type Fields = readonly (readonly [name: string, value: string | Uint8Array])[];

/** Entries in the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS): a length and raw bytes where a line will not do. */
export function exportFormat(entries: readonly Fields[]): Buffer {
  const parts: Buffer[] = [];
  for (const fields of entries) {
    for (const [name, value] of fields) {
      const b = Buffer.from(value as string);
      if (typeof value === 'string' && !value.includes('\n')) parts.push(Buffer.from(`${name}=${value}\n`));
      else {
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(b.length));
        parts.push(Buffer.from(`${name}\n`), length, b, Buffer.from('\n'));
      }
    }
    parts.push(Buffer.from('\n'));
  }
  return Buffer.concat(parts);
}

/** A journal file as systemd-journal-remote writes it. */
export function makeJournal(file: string, entries: readonly Fields[], env: Readonly<Record<string, string>> = {}): void {
  const compress = env['SYSTEMD_JOURNAL_COMPRESS'] === '0' ? '--compress=no' : '--compress=yes';
  const r = spawnSync(REMOTE, [`--output=${file}`, '--split-mode=none', compress, '-'], {
    input: exportFormat(entries),
    env: { ...process.env, ...env },
  });
  if (r.status !== 0) throw new Error(`systemd-journal-remote: ${r.stderr.toString()}`);
}

const BOOTS = ['11111111111111111111111111111111', '2222222222222222222222222222abcd'];

/** A varied journal: two boots, repeated and binary fields, long values that get compressed, many priorities. */
export function sampleEntries(count: number, from = Date.UTC(2024, 0, 31, 22, 0) * 1000): Fields[] {
  return Array.from({ length: count }, (_, i): Fields => {
    const boot = i < count / 2 ? 0 : 1;
    const unit = ['ssh.service', 'cron.service', 'init.scope'][i % 3]!;
    return [
      ['__REALTIME_TIMESTAMP', String(from + i * 1_500_000)],
      ['__MONOTONIC_TIMESTAMP', String(1_000_000 + (i - boot * Math.ceil(count / 2)) * 1_500_000)],
      ['_BOOT_ID', BOOTS[boot]!],
      ['_MACHINE_ID', '99999999999999999999999999999999'],
      ['_HOSTNAME', 'guest'],
      ['_TRANSPORT', i % 11 === 0 ? 'kernel' : 'syslog'],
      ['PRIORITY', String(i % 8)],
      ['SYSLOG_IDENTIFIER', i % 11 === 0 ? 'kernel' : unit.split('.')[0]!],
      ['_PID', String(100 + (i % 7))],
      ['_SYSTEMD_UNIT', unit],
      ['MESSAGE', message(i)],
      ...(i % 5 === 0
        ? ([
            ['TAG', 'one'],
            ['TAG', 'zwei ü'],
          ] as const)
        : []),
      ...(i % 13 === 0 ? ([['BINARY', Uint8Array.from({ length: 40 }, (_, k) => (k * 37 + i) & 255)]] as const) : []),
    ];
  });
}
function message(i: number): string {
  if (i % 17 === 0) return `long ${i} ${'the same words again '.repeat(200)}`;
  if (i % 19 === 0) return `first line ${i}\nsecond line\n\tthird`;
  if (i % 23 === 0) return `colour \x1b[31mred\x1b[0m ${i}`;
  return `message number ${i}: größer`;
}

/**
 * Packs the long fields of an uncompressed journal as systemd would have with another compressor than this machine's has
 * (the choice is made when systemd is built).  Each object stays where it is and gets shorter; data hashes are of the plain bytes.
 */
export function repack(journal: Buffer, kind: 'xz' | 'lz4'): number {
  const flag = kind === 'xz' ? 1 : 2;
  const compact = (journal.readUInt32LE(12) & 16) !== 0;
  const start = compact ? 72 : 64;
  let count = 0;
  const end = Number(journal.readBigUInt64LE(136));
  for (let at = Number(journal.readBigUInt64LE(88)); at < end; ) {
    const size = Number(journal.readBigUInt64LE(at + 8));
    if (journal[at] === 1 && size > start + 512) {
      const packed = kind === 'xz' ? xz(journal.subarray(at + start, at + size)) : lz4(journal.subarray(at + start, at + size));
      packed.copy(journal, at + start);
      journal.writeBigUInt64LE(BigInt(start + packed.length), at + 8);
      journal[at + 1] = flag;
      count++;
    }
    at += Math.ceil(size / 8) * 8;
  }
  journal.writeUInt32LE(journal.readUInt32LE(12) | flag, 12);
  return count;
}

const xz = (b: Uint8Array): Buffer => spawnSync('xz', ['-c', '--check=none'], { input: b }).stdout;

/** The size, then one LZ4 block: a simple greedy coder. */
function lz4(b: Uint8Array): Buffer {
  const out: number[] = [];
  const seen = new Map<number, number>();
  const length = (n: number) => {
    for (n -= 15; n >= 255; n -= 255) out.push(255);
    out.push(n);
  };
  const sequence = (from: number, to: number, distance?: number, match = 4) => {
    out.push((Math.min(15, to - from) << 4) | Math.min(15, match - 4));
    if (to - from >= 15) length(to - from);
    for (let i = from; i < to; i++) out.push(b[i]!);
    if (distance === undefined) return;
    out.push(distance & 255, distance >> 8);
    if (match - 4 >= 15) length(match - 4);
  };
  let from = 0;
  // The format wants the last bytes as they are.
  for (let i = 0; i + 13 < b.length; ) {
    const key = b[i]! | (b[i + 1]! << 8) | (b[i + 2]! << 16) | (b[i + 3]! << 24);
    const before = seen.get(key);
    seen.set(key, i);
    if (before === undefined || i - before > 65535) {
      i++;
      continue;
    }
    let n = 4;
    while (i + n < b.length - 5 && b[i + n] === b[before + n]) n++;
    sequence(from, i, i - before, n);
    i += n;
    from = i;
  }
  sequence(from, b.length);
  const size = Buffer.alloc(8);
  size.writeUInt32LE(b.length);
  return Buffer.concat([size, Uint8Array.from(out)]);
}
