import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../lib/addon/load.js';
import { parsePriorities } from '../../lib/ops/log/priority.js';
import { parseWhen } from '../../lib/ops/log/when.js';
import { hasSystemd, makeJournal, sampleEntries } from '../artifact/journal-helpers.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

/** An ext4 disk with these files; the tool is told with -m that it is all there is. */
function disk(files: Readonly<Record<string, string | Uint8Array>>, changed: Readonly<Record<string, Date>> = {}): string[] {
  const dir = temporaryFolder();
  for (const [path, data] of Object.entries(files)) {
    mkdirSync(join(dir, 'root', dirname(path)), { recursive: true });
    writeFileSync(join(dir, 'root', path), data);
    const time = changed[path];
    if (time !== undefined) utimesSync(join(dir, 'root', path), time, time);
  }
  run('mke2fs', ['-q', '-t', 'ext4', '-d', join(dir, 'root'), join(dir, 'disk.img'), '40M']);
  return ['-a', join(dir, 'disk.img'), '-m', '/dev/sda'];
}
const lines = (s: string) => s.split('\n').slice(0, -1);
const MACHINE = '99999999999999999999999999999999';

describe('virt-log with a journal', () => {
  const ready = hasSystemd && hasTool('mke2fs');
  const made = ready ? makeDisk() : undefined;
  const whenReady = itIf(ready, 'systemd, systemd-journal-remote or mke2fs not installed');
  function makeDisk() {
    const dir = temporaryFolder();
    mkdirSync(join(dir, MACHINE));
    const all = sampleEntries(200);
    makeJournal(join(dir, MACHINE, 'system.journal'), all.slice(120));
    makeJournal(join(dir, MACHINE, 'system@1.journal'), all.slice(0, 120));
    // Set aside at a crash: the same entries again, in a file that was not closed.
    copyFileSync(join(dir, MACHINE, 'system@1.journal'), join(dir, MACHINE, 'system@2.journal~'));
    const files = ['system.journal', 'system@1.journal', 'system@2.journal~'].map((f) => [
      `/var/log/journal/${MACHINE}/${f}`,
      readFileSync(join(dir, MACHINE, f)),
    ]);
    return { dir: join(dir, MACHINE), args: disk(Object.fromEntries(files)) };
  }
  /** journalctl's words for the same; what it calls blob data we print escaped, so such lines are left out on both sides. */
  const same = (ours: readonly string[], theirs: readonly string[] = ours) => {
    const r = tool('virt-log', [...ours, ...made!.args]);
    expect(r.stderr).toBe('');
    const want = run('env', ['TZ=UTC', 'journalctl', '-D', made!.dir, '--no-pager', '-q', '--all', ...theirs]);
    const plain = (s: string) => lines(s).filter((l) => !/blob data|\\x1b|\x1b/.test(l));
    expect(plain(r.stdout)).toEqual(plain(want));
    return lines(r.stdout).length;
  };
  const short = ['-o', 'short'];
  whenReady('-o short prints what journalctl prints', () => expect(same(short)).toBeGreaterThan(200));
  whenReady('-o cat prints what journalctl prints', () => expect(same(['-o', 'cat'])).toBeGreaterThan(200));
  whenReady('-u, -p, -g, -n, -t and times choose as journalctl does', () => {
    const counts = [
      same([...short, '-u', 'ssh']),
      same([...short, '-u', 's*.service', '-u', 'cron.service']),
      same([...short, '-p', 'err']),
      same([...short, '-p', 'crit..warning']),
      same([...short, '-t', 'cron'], [...short, '-t', 'cron']),
      same([...short, '--since', '2024-01-31 22:01:00', '--until', '2024-01-31 22:03']),
      same([...short, '-S', '@1706738460', '-p', '4..4']),
      same([...short, '-g', 'number 1[0-9]:']),
    ];
    expect(counts.every((n) => n > 0 && n < 200)).toBe(true);
    // 10 to 16 and 18; capitals in a pattern mean capitals.
    expect(counts.at(-1)).toBe(8);
    expect(tool('virt-log', ['-g', 'NUMBER 1', ...made!.args]).stdout).toBe('');
    expect(lines(tool('virt-log', ['-n', '7', '-o', 'cat', '-g', '^message', ...made!.args]).stdout).length).toBe(7);
  });
  whenReady('-b counts boots from either end, and knows them by ID', () => {
    const first = '11111111111111111111111111111111';
    const n = same([...short, '-b-1'], [...short, '-b', first]);
    expect(n).toBeGreaterThan(90);
    expect(same([...short, '--boot=1'], [...short, '-b', first])).toBe(n);
    expect(same([...short, `--boot=${first}`], [...short, '-b', first])).toBe(n);
    expect(same([...short, '-b'], [...short, '-b', '2222222222222222222222222222abcd'])).toBeGreaterThan(90);
    expect(lines(tool('virt-log', ['--list-boots', ...made!.args]).stdout)).toEqual([
      '-1  11111111111111111111111111111111  2024-01-31T22:00:00+00:00  2024-01-31T22:02:28+00:00',
      ' 0  2222222222222222222222222222abcd  2024-01-31T22:02:30+00:00  2024-01-31T22:04:58+00:00',
    ]);
    expect(tool('virt-log', ['-b-7', ...made!.args])).toMatchObject({ status: 1, stdout: '' });
  });
  whenReady('--json is journalctl -o json', () => {
    const parse = (s: string) =>
      lines(s).map((l) => {
        const { __SEQNUM, __SEQNUM_ID, ...rest } = JSON.parse(l);
        return rest;
      });
    const want = run('journalctl', ['-D', made!.dir, '--no-pager', '-q', '--all', '-o', 'json']);
    expect(parse(tool('virt-log', ['--json', ...made!.args]).stdout)).toEqual(parse(want));
  });
  whenReady('prints time, program and priority, and never a raw control character', () => {
    const r = tool('virt-log', made!.args);
    expect(lines(r.stdout)[1]).toBe('Jan 31 22:00:01 cron[101] alert: message number 1: größer');
    // Message 23 wants to colour the terminal.
    expect(r.stdout).toContain('colour \\x1b[31mred\\x1b[0m 23\n');
    expect(r.stdout).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
  });
});

describe('virt-log with text logs', () => {
  const guest = () =>
    disk(
      {
        '/var/log/syslog': 'Jan  1 00:00:05 host sshd[7]: new \x1b]0;evil\x07 year\nJan  1 00:00:06 host kernel: last\n',
        '/var/log/syslog.1': Buffer.from('Dec 31 23:59:58 host cron[1]: old\n\tgoes on \xff\n', 'latin1'),
        '/var/log/syslog.2.gz': gzipSync('Dec 30 10:00:00 host cron[1]: older\n'),
        '/var/log/syslog.10.xz': hasTool('xz') ? pack('xz', 'Dec 29 10:00:00 host cron[1]: oldest\n') : '',
        '/var/log/syslog.3.zst': pack('zstd', '2023-12-30T09:00:00.25+01:00 host sshd: zstd\n'),
        '/var/log/syslog.4.bz2': pack('bzip2', 'Dec 30 07:00:00 host cron: bzip2\n'),
        '/var/log/syslog.old': 'not a rotation\n',
      },
      Object.fromEntries(
        ['syslog', 'syslog.1', 'syslog.2.gz', 'syslog.10.xz', 'syslog.4.bz2'].map((f) => [
          `/var/log/${f}`,
          new Date('2024-01-01T12:00:00Z'),
        ]),
      ),
    );
  const pack = (program: string, text: string) =>
    Buffer.from(run('sh', ['-c', `${program} -c | base64 -w0`], { input: text }), 'base64');
  const needs = itNeeds('mke2fs', 'xz', 'zstd', 'bzip2');

  needs('prints the current file, its control characters escaped', () => {
    expect(tool('virt-log', guest())).toMatchObject({
      status: 0,
      stderr: '',
      stdout: 'Jan  1 00:00:05 host sshd[7]: new \\x1b]0;evil\\x07 year\nJan  1 00:00:06 host kernel: last\n',
    });
  });
  needs('--all puts rotated and compressed files before it, oldest first', () => {
    const args = ['--all', ...guest()];
    expect(lines(tool('virt-log', args).stdout)).toEqual([
      'Dec 29 10:00:00 host cron[1]: oldest',
      'Dec 30 07:00:00 host cron: bzip2',
      '2023-12-30T09:00:00.25+01:00 host sshd: zstd',
      'Dec 30 10:00:00 host cron[1]: older',
      'Dec 31 23:59:58 host cron[1]: old',
      '\tgoes on \\xff',
      'Jan  1 00:00:05 host sshd[7]: new \\x1b]0;evil\\x07 year',
      'Jan  1 00:00:06 host kernel: last',
    ]);
    // Lines without a year are of the one before the file's change; a line without a time belongs to the one above it.
    expect(lines(tool('virt-log', ['--since', '2023-12-31', '--until', '2023-12-31 23:59:59', ...args]).stdout)).toEqual([
      'Dec 31 23:59:58 host cron[1]: old',
      '\tgoes on \\xff',
    ]);
    expect(lines(tool('virt-log', ['-u', 'sshd', '-o', 'short-iso', ...args]).stdout)).toEqual([
      '2023-12-30T08:00:00+00:00 host sshd: zstd',
      '2024-01-01T00:00:05+00:00 host sshd[7]: new \\x1b]0;evil\\x07 year',
    ]);
    expect(tool('virt-log', ['-k', '-o', 'cat', ...args]).stdout).toBe('last\n');
    expect(JSON.parse(lines(tool('virt-log', ['--json', '-n', '1', ...args]).stdout)[0]!)).toEqual({
      __REALTIME_TIMESTAMP: String(Date.UTC(2024, 0, 1, 0, 0, 6) * 1000),
      _HOSTNAME: 'host',
      SYSLOG_IDENTIFIER: 'kernel',
      SYSLOG_TIMESTAMP: 'Jan  1 00:00:06',
      MESSAGE: 'last',
      LOG_FILE: '/var/log/syslog',
    });
    expect(tool('virt-log', ['-p', 'err', ...args])).toMatchObject({
      status: 1,
      stderr: 'virt-log: /var/log/syslog does not record priorities (--priority needs a journal)\n',
    });
  });
  needs('-f prints the last lines, then what is added', async () => {
    const before = disk({
      '/var/log/syslog': Array.from({ length: 30 }, (_, i) => `Jan  1 00:00:${10 + i} h a: ${i}\n`).join(''),
    });
    const after = disk({
      '/var/log/syslog': Array.from({ length: 32 }, (_, i) => `Jan  1 00:00:${10 + i} h a: ${i}\n`).join(''),
    });
    const bin = join(packageRoot(), 'dist/bin/virt-log.js');
    const child = spawn(process.execPath, [bin, '-f', '--interval', '1', '-n', '3', '-o', 'cat', ...before], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let seen = '';
    const until = (end: string) =>
      new Promise<void>((done, fail) => {
        const timer = setTimeout(() => fail(new Error(`"${end}" did not come; seen: ${seen}`)), 10_000);
        const look = () => {
          if (!seen.endsWith(end)) return;
          clearTimeout(timer);
          child.stdout.off('data', look);
          done();
        };
        child.stdout.on('data', look);
        look();
      });
    child.stdout.on('data', (d: Buffer) => {
      seen += d.toString();
    });
    try {
      await until('29\n');
      // The same file of the same guest, grown by two lines: written over, as a guest does it.
      copyFileSync(after[1]!, before[1]!);
      await until('31\n');
      expect(seen).toBe('27\n28\n29\n30\n31\n');
    } finally {
      child.kill();
    }
  });
  needs('says what it looked for when there is no log', () => {
    expect(tool('virt-log', disk({ '/etc/x': '' }))).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(/no journal in \/var\/log\/journal and no \/var\/log\/syslog/),
    });
  });
  itIf(hasSharedData(), noSharedData)('the shared guests: a journal and a syslog', () => {
    const fedora = lines(tool('virt-log', ['-a', sharedFile('guest/phony-fedora.img.zst'), '-o', 'cat']).stdout);
    expect(fedora.length).toBeGreaterThanOrEqual(2459);
    expect(fedora.at(-1)).toBe('Journal stopped');
    expect(tool('virt-log', ['-a', sharedFile('guest/deb12.img.zst')]).stdout).toBe(
      'Jan  1 00:00:00 bookworm-essential kernel: made line\n',
    );
  });
  it('refuses options that make no sense, saying what would', () => {
    const message = (...args: string[]) => lines(tool('virt-log', [...args, '-a', '/dev/null']).stderr)[0];
    expect(message('-p', 'loud')).toMatch(/^virt-log: --priority: "loud" is not a priority \(expected 0 to 7, emerg, /);
    expect(message('--since', 'someday')).toMatch(/--since: "someday" is not a time/);
    expect(message('-o', 'verbose')).toBe('virt-log: --output: "verbose" is not one of guest, short, short-iso, cat, json');
    expect(message('-n', '-3')).toBe('virt-log: --lines: "-3" is not a number from 0 up');
    expect(message('-g', '(')).toMatch(/^virt-log: --grep: Invalid regular expression/);
    expect(message('file')).toBe('virt-log: extra argument: file (a disk is given with -a)');
  });
});

describe('times and priorities', () => {
  const now = new Date(2024, 1, 29, 12, 30, 15);
  const local = (y: number, mo: number, d: number, h = 0, mi = 0, s = 0) => new Date(y, mo, d, h, mi, s).getTime() * 1000;
  it.each([
    ['2024-01-31 22:00:05', local(2024, 0, 31, 22, 0, 5)],
    ['2024-01-31 22:00', local(2024, 0, 31, 22, 0, 0)],
    ['2024-01-31', local(2024, 0, 31)],
    ['08:05', local(2024, 1, 29, 8, 5, 0)],
    ['today', local(2024, 1, 29)],
    ['yesterday', local(2024, 1, 28)],
    ['tomorrow', local(2024, 2, 1)],
    ['now', now.getTime() * 1000],
    ['@1700000000', 1700000000e6],
    ['@1700000000.5', 1700000000.5e6],
    ['-2h', now.getTime() * 1000 - 7200e6],
    ['-2h30min', now.getTime() * 1000 - 9000e6],
    ['+1d', now.getTime() * 1000 + 86400e6],
    ['3 days ago', now.getTime() * 1000 - 3 * 86400e6],
    ['1 week 2 days ago', now.getTime() * 1000 - 9 * 86400e6],
    ['2024-01-31T22:00:05Z', Date.UTC(2024, 0, 31, 22, 0, 5) * 1000],
    ['2024-01-31T22:00:05.25+02:00', (Date.UTC(2024, 0, 31, 20, 0, 5) + 250) * 1000],
    ['2024-01-31 22:00:05 UTC', Date.UTC(2024, 0, 31, 22, 0, 5) * 1000],
  ])('%s', (text, want) => expect(parseWhen(text, now)).toBe(want));
  it.each(['', '2024-13-01', '25:61', '-2 parsecs', '@', 'ago', '2024-01-31 22'])('"%s" is no time', (text) =>
    expect(() => parseWhen(text, now)).toThrow('is not a time'),
  );
  it('a priority includes the more urgent ones, a range only itself', () => {
    expect(parsePriorities('err')).toEqual([0, 3]);
    expect(parsePriorities('7')).toEqual([0, 7]);
    expect(parsePriorities('warn..2')).toEqual([2, 4]);
    expect(() => parsePriorities('1..2..3')).toThrow('is not a priority');
  });
});
