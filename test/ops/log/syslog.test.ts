import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SyslogReader } from '../../../lib/ops/log/syslog.js';
import { itIf } from '../../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../../helpers/shared-data.js';

describe('syslog lines', () => {
  itIf(hasSharedData(), noSharedData)('of the shared logs keep their text, and are taken apart where they have the form', () => {
    const parsed: Record<string, number> = {};
    for (const e of sharedEntries().filter((x) => x.kind === 'syslog')) {
      const lines = readFileSync(sharedFile(e.name), 'utf8').replace(/\n$/, '').split('\n');
      expect([e.name, lines.length]).toEqual([e.name, e.expected.lines]);
      const reader = new SyslogReader(e.name, new Date());
      const records = lines.map((l) => reader.record(l));
      expect(records.map((r) => r.line)).toEqual(lines);
      parsed[e.name.replace('logs/plaso-', '')] = records.filter(
        (r) => r.identifier !== undefined && r.time !== undefined,
      ).length;
    }
    // Some of these files are there for their malformed lines; a number below would mean that a form is no longer known.
    for (const name of ['syslog', 'syslog_cron.log', 'syslog_ssh.log', 'syslog_rsyslog'])
      expect([name, parsed[name]! > 2]).toEqual([name, true]);
  });
  it('without a year belong to the one that ends before the file’s last change', () => {
    const reader = new SyslogReader('/var/log/syslog', new Date(2024, 1, 10));
    const at = (l: string) => reader.record(l).time;
    expect(at('Nov  5 01:02:03 h a: x')).toBe(new Date(2023, 10, 5, 1, 2, 3).getTime() * 1000);
    expect(at('Dec 31 23:59:59 h a: x')).toBe(new Date(2023, 11, 31, 23, 59, 59).getTime() * 1000);
    expect(at('Jan  1 00:00:00 h a: x')).toBe(new Date(2024, 0, 1).getTime() * 1000);
    // The clock was set back a month: still the same year.
    expect(at('Feb  9 00:00:00 h a: x')).toBe(new Date(2024, 1, 9).getTime() * 1000);
    expect(at('Jan  9 00:00:00 h a: x')).toBe(new Date(2024, 0, 9).getTime() * 1000);
  });
  it('with a priority, a version or without a tag', () => {
    const reader = new SyslogReader('/l', new Date(2024, 1, 10));
    expect(reader.record('<13>Jan  1 00:00:00 h app[3]: text')).toMatchObject({
      priority: 5,
      identifier: 'app',
      pid: '3',
      message: 'text',
    });
    expect(reader.record('<34>1 2024-01-01T00:00:00Z h su: text')).toMatchObject({
      priority: 2,
      hostname: 'h',
      identifier: 'su',
    });
    expect(reader.record('no form at all')).toMatchObject({
      hostname: undefined,
      identifier: undefined,
      message: 'no form at all',
    });
  });
});
