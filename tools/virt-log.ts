import { type Command, Option } from 'commander';
import {
  explain,
  formatRecord,
  GuestError,
  GuestLog,
  isoTime,
  LOG_FORMATS,
  type LogFilter,
  type LogFormat,
  type LogPosition,
  type LogRecord,
  parsePriorities,
  parseWhen,
} from '../lib/index.js';
import { GuestOptions } from './shared/guest.js';
import { columns, json, out, warn } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';

interface Settings {
  format: LogFormat;
  all: boolean;
  text: boolean;
  lines: number | undefined;
  boot: string | undefined;
  follow: boolean;
  interval: number;
  listBoots: boolean;
  filter: { -readonly [K in keyof LogFilter]: LogFilter[K] } & { units: string[]; identifiers: string[] };
}

function addOptions(command: Command, s: Settings): void {
  const add = (flags: string, help: string, take: (v: string) => void) =>
    command.addOption(
      new Option(flags, help).argParser((v: string) => {
        take(v);
        return v;
      }),
    );
  add('-o, --output <format>', `${LOG_FORMATS.join(', ')} (guest)`, (v) => {
    if (!(LOG_FORMATS as readonly string[]).includes(v))
      throw new GuestError('usage', `--output: "${v}" is not one of ${LOG_FORMATS.join(', ')}`);
    s.format = v as LogFormat;
  });
  add('--all', 'rotated and compressed text logs too, oldest first', () => (s.all = true));
  add('--text', 'the text logs, even where there is a journal', () => (s.text = true));
  add('-n, --lines <n>', 'only the last n messages', (v) => (s.lines = number('--lines', v, 0)));
  add('-u, --unit <unit>', 'messages of this systemd unit (* and ? allowed; may be repeated)', (v) => s.filter.units.push(v));
  add('-t, --identifier <name>', 'messages of this program (may be repeated)', (v) => s.filter.identifiers.push(v));
  add('-p, --priority <priority>', 'messages at least this urgent: err, 3, or a range err..warning', (v) => {
    s.filter.priorities = parsePriorities(v);
  });
  add('-S, --since <time>', 'not older than: "2024-01-31 22:00", yesterday, -2h, @1700000000', (v) => {
    s.filter.since = parseWhen(v, new Date(), '--since');
  });
  add('-U, --until <time>', 'not newer than', (v) => (s.filter.until = parseWhen(v, new Date(), '--until')));
  add('-b, --boot [boot]', 'one boot: 0 or nothing the last, -1 the one before, 1 the first, or an ID', () => undefined);
  add('--list-boots', 'the boots that the journal knows', () => (s.listBoots = true));
  add('-k, --dmesg', 'messages of the kernel (of the last boot)', () => (s.filter.kernel = true));
  add('-g, --grep <regexp>', 'messages that match; without capitals, case does not matter', (v) => {
    try {
      s.filter.grep = new RegExp(v, /[A-Z]/.test(v) ? 'u' : 'iu');
    } catch (e) {
      throw new GuestError('usage', `--grep: ${e instanceof Error ? e.message : String(e)}`);
    }
  });
  add('-f, --follow', 'go on with what is added, looking every --interval seconds', () => (s.follow = true));
  add('--interval <seconds>', 'seconds between looks (30)', (v) => (s.interval = number('--interval', v, 1)));
}

function number(option: string, v: string, least: number): number {
  const n = Number(v);
  if (v.trim() === '' || !Number.isInteger(n) || n < least)
    throw new GuestError('usage', `${option}: "${v}" is not a number from ${least} up`);
  return n;
}

export const tool: Tool = {
  name: 'virt-log',
  summary: 'print the logs of a guest',
  usage: ['virt-log [OPTIONS] -a DISK [-a DISK …]', 'virt-log [OPTIONS] -d DOMAIN'],
  examples: [
    ['everything that the guest logged', 'virt-log -a disk.qcow2'],
    ['why did it not come up?', 'virt-log -b -p err -a disk.qcow2'],
    ['one service, for a program', 'virt-log -u sshd --since yesterday --json -a disk.qcow2'],
    ['the whole history of a guest without a journal', 'virt-log --all -a disk.qcow2'],
  ],
  notes: [
    'The systemd journal is printed where there is one, else /var/log/syslog or /var/log/messages.  Control characters are shown as \\x1b.  A boot’s number is joined to its option: -b-1, --boot=-1.',
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    const s: Settings = {
      format: 'guest',
      all: false,
      text: false,
      lines: undefined,
      boot: undefined,
      follow: false,
      interval: 30,
      listBoots: false,
      filter: { units: [], identifiers: [] },
    };
    addOptions(command, s);
    jsonOption(command);
    return async (args) => {
      if (args.length > 0) throw new GuestError('usage', `extra argument: ${args[0]} (a disk is given with -a)`);
      // Without a value, the short option is true and the long one an empty string.
      const boot = command.opts<{ boot?: string | true }>().boot;
      if (boot !== undefined) s.boot = boot === true || boot === '' ? '0' : boot;
      if (common.json) s.format = 'json';
      const position: LogPosition | undefined = s.follow ? { seqnums: new Map() } : undefined;
      if (s.follow) s.lines ??= 10;
      for (let round = 0; ; round++) {
        try {
          const { tree, storage, os } = await guest.openTree();
          if (os?.type === 'windows') throw new GuestError('unsupported', 'the event logs of Windows are not readable yet');
          const log = new GuestLog(tree, s);
          if (s.listBoots) printBoots(log, s.format);
          else print(log, s, position, round === 0 ? s.lines : undefined);
          if (round === 0) for (const p of new Set(log.problems)) warn(`virt-log: warning: ${p}`);
          storage.close();
        } catch (e) {
          // A running guest's disk may be read in the middle of a change; the next look sees it whole.
          if (!(e instanceof GuestError) || round === 0) throw e;
          warn(`virt-log: ${explain(e)}`);
        }
        out.flush();
        if (!s.follow) return 0;
        await new Promise((done) => setTimeout(done, s.interval * 1000));
      }
    };
  },
};

function print(log: GuestLog, s: Settings, position: LogPosition | undefined, lines: number | undefined): void {
  // As journalctl: the kernel's messages are those of one boot.
  const boot = s.boot ?? (s.filter.kernel && log.kind === 'journal' ? '0' : undefined);
  const filter: LogFilter = boot === undefined ? s.filter : { ...s.filter, bootId: log.boot(boot) };
  const last: LogRecord[] = [];
  for (const r of log.records(filter, position)) {
    if (lines === undefined) {
      const text = formatRecord(r, s.format);
      if (text !== undefined) out.write(text);
    } else if (lines > 0) {
      last.push(r);
      // Cut now and then, so that it costs nothing a message.
      if (last.length > 2 * lines + 1000) last.splice(0, last.length - lines);
    }
  }
  for (const r of lines === undefined || lines === 0 ? [] : last.slice(-lines)) {
    const text = formatRecord(r, s.format);
    if (text !== undefined) out.write(text);
  }
}

function printBoots(log: GuestLog, format: LogFormat): void {
  if (log.kind !== 'journal')
    throw new GuestError('unsupported', 'a text log does not know boots (--list-boots needs a journal)');
  const boots = log.boots();
  const rows = boots.map((b, i) => ({ index: i - boots.length + 1, boot_id: b.id, first_entry: b.first, last_entry: b.last }));
  if (format === 'json') out.line(json(rows));
  else
    for (const line of columns(
      rows.map((r) => [String(r.index), r.boot_id, isoTime(r.first_entry), isoTime(r.last_entry)]),
      { right: [0] },
    ))
      out.line(line);
}
