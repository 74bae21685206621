import { jsonText, type TextRecord } from './record.js';

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
/** "<PRI>", then RFC 3164's "Jan  2 03:04:05" or RFC 3339 (with RFC 5424's version before it), host, and the rest. */
const PRI = /^<(\d{1,3})>(?:1 )?/;
const OLD = /^([A-Z][a-z]{2}) ([ 0-9]\d) (\d\d):(\d\d):(\d\d)(?:\.\d{1,9})? (\S+) /;
const NEW = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)) (\S+) /;
/** "name[123]: text", "name: text"; RFC 5424 writes "name 123 id [data] text" instead. */
const TAG = /^([^\s:[\]]{1,64})(?:\[(\d{1,10})\])?: ?/;

/**
 * Takes syslog's lines apart.  Their old form has no year: it is the one that puts a file's lines before its time of
 * change, and goes up where December is followed by January.
 */
export class SyslogReader {
  #year: number | undefined;
  #month = 0;
  #last: number | undefined;

  constructor(
    private readonly path: string,
    private readonly changed: Date,
  ) {}

  record(line: string): TextRecord {
    const pri = PRI.exec(line);
    let rest = pri === null ? line : line.slice(pri[0].length);
    let hostname: string | undefined;
    let stamp: string | undefined;
    let time: number | undefined;
    const old = OLD.exec(rest);
    const month = old === null ? -1 : MONTHS.indexOf(old[1]!);
    if (old !== null && month >= 0) {
      time = this.#withYear(month, Number(old[2]), Number(old[3]), Number(old[4]), Number(old[5]));
      hostname = old[6];
      stamp = old[0].slice(0, -(hostname!.length + 2));
      rest = rest.slice(old[0].length);
    } else {
      const m = NEW.exec(rest);
      const ms = m === null ? Number.NaN : Date.parse(m[1]!);
      if (m !== null && !Number.isNaN(ms)) {
        time = ms * 1000;
        stamp = m[1];
        hostname = m[2];
        rest = rest.slice(m[0].length);
      }
    }
    const tag = stamp === undefined ? null : TAG.exec(rest);
    const identifier = tag?.[1];
    const message = tag === null ? rest : rest.slice(tag[0].length);
    // A line without a time goes on with what the line before it said.
    if (time !== undefined) this.#last = time;
    const priority = pri === null ? undefined : Number(pri[1]) & 7;
    const path = this.path;
    return {
      time: time ?? this.#last,
      hostname,
      identifier,
      pid: tag?.[2],
      priority,
      bootId: undefined,
      kernel: identifier === 'kernel',
      units: identifier === undefined ? [] : [`${identifier}.service`],
      message,
      line,
      json() {
        return {
          ...(time === undefined ? {} : { __REALTIME_TIMESTAMP: String(time) }),
          ...(priority === undefined ? {} : { PRIORITY: String(priority) }),
          ...(hostname === undefined ? {} : { _HOSTNAME: jsonText(hostname) }),
          ...(identifier === undefined ? {} : { SYSLOG_IDENTIFIER: jsonText(identifier) }),
          ...(tag?.[2] === undefined ? {} : { SYSLOG_PID: tag[2] }),
          ...(stamp === undefined ? {} : { SYSLOG_TIMESTAMP: stamp }),
          MESSAGE: jsonText(message),
          LOG_FILE: jsonText(path),
        };
      },
    };
  }

  #withYear(month: number, day: number, hour: number, minute: number, second: number): number {
    const at = (year: number) => new Date(year, month, day, hour, minute, second).getTime();
    if (this.#year === undefined) {
      const year = this.changed.getFullYear();
      // A day's grace, for clocks and time zones.
      this.#year = at(year) > this.changed.getTime() + 86_400_000 ? year - 1 : year;
    } else if (month < this.#month && this.#month - month > 6) this.#year++;
    this.#month = month;
    return at(this.#year) * 1000;
  }
}
