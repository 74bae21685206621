import { createHash } from 'node:crypto';
import { type Command, Option } from 'commander';
import { crcOfStream, GuestError, humanSize, type Kind, type Node, type Stat, type Time } from '../../lib/index.js';

const TIME_WIDTH = { date: 0, seconds: 10, relative: 8, days: 3 } as const;

/** The columns that virt-ls -lR and virt-diff share, in their order. */
export class VisitOptions {
  csv = false;
  human = false;
  times = false;
  /** Among the times, also that of access. */
  atime = true;
  /** As dates, seconds, seconds before now, or days before now. */
  timeFormat: 'date' | 'seconds' | 'relative' | 'days' = 'date';
  uids = false;
  extraStats = false;
  checksum: string | undefined;
  readonly #now = Math.floor(Date.now() / 1000);

  addOptions(command: Command): this {
    const flag = (name: string, help: string, then: () => void) =>
      command.addOption(
        new Option(name, help).argParser(() => {
          then();
          return true;
        }),
      );
    command.addOption(
      new Option('--checksum [hash]', `add a hash of the contents: ${CHECKSUMS.join(', ')} (md5)`).argParser((v: string) => {
        const name = v === '' ? 'md5' : v;
        if (!CHECKSUMS.includes(name)) throw new GuestError('usage', `--checksum: "${v}" is not one of ${CHECKSUMS.join(', ')}`);
        this.checksum = name;
        return name;
      }),
    );
    flag('--csv', 'comma-separated values', () => {
      this.csv = true;
    });
    flag('--extra-stats', 'device, inode, links, rdev and blocks', () => {
      this.extraStats = true;
    });
    flag('-h, --human-readable', 'sizes as 1.5G', () => {
      this.human = true;
    });
    flag('--times', 'access, modification and change time', () => {
      this.times = true;
    });
    for (const [name, format, help] of [
      ['--time-days', 'days', 'times as days before now'],
      ['--time-relative', 'relative', 'times as seconds before now'],
      ['--time-t', 'seconds', 'times as seconds since 1970'],
    ] as const)
      flag(name, help, () => {
        this.times = true;
        this.timeFormat = format;
      });
    flag('--uids', 'owner and group', () => {
      this.uids = true;
    });
    return this;
  }

  time(t: Time): string {
    switch (this.timeFormat) {
      case 'seconds':
        return String(t.sec);
      case 'relative':
        return String(this.#now - t.sec);
      case 'days':
        return String(Math.floor((this.#now - t.sec) / 86400));
      default: {
        const d = new Date(t.sec * 1000);
        return Number.isNaN(d.getTime()) ? String(t.sec) : `${d.toISOString().slice(0, 10)} ${d.toISOString().slice(11, 19)}`;
      }
    }
  }

  /** The fields of one file, padded as the original pads them unless CSV. */
  fields(node: Node, stat: Stat, path: string): string[] {
    const pad = (s: string, n: number) => (this.csv ? s : s.padStart(n));
    const out = [
      letterOf(node.kind),
      (stat.mode & 0o7777).toString(8).padStart(4, '0'),
      pad(this.human ? humanSize(stat.size) : String(stat.size), 10),
    ];
    if (this.uids) out.push(pad(String(stat.uid), 4), pad(String(stat.gid), 4));
    // Times are padded in CSV too, as they have always been.
    if (this.times)
      out.push(
        ...[...(this.atime ? [stat.atime] : []), stat.mtime, stat.ctime].map((t) =>
          this.time(t).padStart(TIME_WIDTH[this.timeFormat]),
        ),
      );
    if (this.extraStats) {
      const rdev = stat.rdev ?? { major: 0, minor: 0 };
      out.push('0:0', String(stat.ino), String(stat.links), `${rdev.major}:${rdev.minor}`, String(stat.blocks));
    }
    if (this.checksum !== undefined && node.kind === 'file') out.push(checksumOf(node, this.checksum));
    else if (this.checksum !== undefined && this.csv) out.push('');
    out.push(path);
    if (node.kind === 'symlink') out.push(...(this.csv ? [node.target()] : ['->', node.target()]));
    return out;
  }
}

export const CHECKSUMS: readonly string[] = ['crc', 'md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'];

/** Hash of a file's contents; `crc` is POSIX cksum's. */
export function checksumOf(node: Node, name: string): string {
  const buffer = new Uint8Array(1 << 20);
  if (name === 'crc') return String(crcOfStream(node, buffer));
  const hash = createHash(name);
  for (let at = 0, n: number; (n = node.read(buffer, at)) > 0; at += n) hash.update(buffer.subarray(0, n));
  return hash.digest('hex');
}

const LETTERS: Readonly<Record<Kind, string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
  socket: 's',
  unknown: 'u',
};
export const letterOf = (kind: Kind): string => LETTERS[kind];

/** "drwxr-xr-x" */
export function modeText(mode: number, kind: Kind): string {
  const bit = (m: number, c: string) => (mode & m ? c : '-');
  const special = (execute: number, set: number, low: string) =>
    mode & set ? (mode & execute ? low : low.toUpperCase()) : bit(execute, 'x');
  return `${LETTERS[kind]}${bit(0o400, 'r')}${bit(0o200, 'w')}${special(0o100, 0o4000, 's')}${bit(0o40, 'r')}${bit(0o20, 'w')}${special(0o10, 0o2000, 's')}${bit(4, 'r')}${bit(2, 'w')}${special(1, 0o1000, 't')}`;
}
