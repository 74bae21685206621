import { usage } from '../../core/errors.js';

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  M: 2_629_800_000,
  y: 31_557_600_000,
};
const UNIT_NAME: Readonly<Record<string, string>> = {
  msec: 'ms',
  sec: 's',
  second: 's',
  min: 'm',
  minute: 'm',
  hr: 'h',
  hour: 'h',
  day: 'd',
  week: 'w',
  month: 'M',
  year: 'y',
};

/** "2h 30min" in ms; undefined when it is no time span. */
function span(text: string): number | undefined {
  let total = 0;
  let rest = text.trim();
  if (rest === '') return undefined;
  while (rest !== '') {
    const m = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*/.exec(rest);
    if (m === null) return undefined;
    const name = m[2] === '' ? 's' : m[2]!;
    // Only "M" for months and "m" for minutes tell cases apart.
    const unit = UNIT_MS[name] ?? UNIT_MS[UNIT_NAME[name.toLowerCase().replace(/(.)s$/, '$1')] ?? ''];
    if (unit === undefined) return undefined;
    total += Number(m[1]) * unit;
    rest = rest.slice(m[0].length);
  }
  return total;
}

/**
 * A point in time as journalctl takes it (systemd.time(7)), in µs since 1970: "2024-01-31 22:00:05", "22:00", "today",
 * "yesterday", "-2h", "3 days ago", "@1700000000.5", RFC 3339; local time unless it says otherwise.
 */
export function parseWhen(text: string, now: Date, option = '--since'): number {
  const t = text.trim();
  const midnight = (days: number) => new Date(now.getFullYear(), now.getMonth(), now.getDate() + days).getTime();
  const named: Readonly<Record<string, number>> = {
    now: now.getTime(),
    today: midnight(0),
    yesterday: midnight(-1),
    tomorrow: midnight(1),
  };
  const ms = named[t] ?? epoch(t) ?? relative(t, now) ?? absolute(t, now);
  if (ms === undefined || !Number.isFinite(ms))
    throw usage(
      `${option}: "${text}" is not a time (expected such as "2024-01-31 22:00", "22:00", today, yesterday, -2h, "3 days ago", @1700000000)`,
    );
  return Math.round(ms * 1000);
}

function epoch(t: string): number | undefined {
  const m = /^@(\d{1,12}(?:\.\d{1,6})?)$/.exec(t);
  return m === null ? undefined : Number(m[1]) * 1000;
}
function relative(t: string, now: Date): number | undefined {
  const ago = / ago$/.exec(t);
  const sign = ago !== null || t.startsWith('-') ? -1 : t.startsWith('+') ? 1 : 0;
  if (sign === 0) return undefined;
  const s = span(ago !== null ? t.slice(0, -4) : t.slice(1));
  return s === undefined ? undefined : now.getTime() + sign * s;
}
function absolute(t: string, now: Date): number | undefined {
  const m =
    /^(?:(\d{4})-(\d\d?)-(\d\d?))?(?:(?:^|[ T])(\d\d?):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?)?\s*(Z|UTC|[+-]\d\d:?\d\d)?$/.exec(t);
  if (m === null || (m[1] === undefined && m[4] === undefined)) return undefined;
  const [, year, month, day, hour, minute, second, zone] = m;
  const sec = Number(second ?? 0);
  const parts = [
    year === undefined ? now.getFullYear() : Number(year),
    month === undefined ? now.getMonth() : Number(month) - 1,
    day === undefined ? now.getDate() : Number(day),
    Number(hour ?? 0),
    Number(minute ?? 0),
    Math.floor(sec),
  ] as const;
  const [, mo, d, h, mi] = parts;
  if (mo < 0 || mo > 11 || d < 1 || d > 31 || h > 24 || mi > 59 || sec >= 61) return undefined;
  const fraction = (sec % 1) * 1000;
  if (zone === undefined) return new Date(...parts).getTime() + fraction;
  const offset = /^([+-])(\d\d):?(\d\d)$/.exec(zone);
  const shift = offset === null ? 0 : (offset[1] === '-' ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3])) * 60_000;
  return Date.UTC(...parts) - shift + fraction;
}
