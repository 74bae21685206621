import { PRIORITIES } from './priority.js';
import type { LogRecord } from './record.js';

export type LogFormat = 'guest' | 'short' | 'short-iso' | 'cat' | 'json';
export const LOG_FORMATS: readonly LogFormat[] = ['guest', 'short', 'short-iso', 'cat', 'json'];

const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f]|[\ud800-\udfff]/gu;
/**
 * Text that is safe to print: a guest's control characters could drive the terminal.  Tabs and line ends stay; a byte that
 * is no UTF-8 (a lone surrogate, see core/text) is shown by its value.
 */
export const printableText = (s: string): string =>
  s.replace(UNSAFE, (c) => {
    const n = c.charCodeAt(0);
    return n >= 0xdc80 && n <= 0xdcff
      ? `\\x${(n - 0xdc00).toString(16)}`
      : n < 256
        ? `\\x${n.toString(16).padStart(2, '0')}`
        : '\\ufffd';
  });

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const two = (n: number) => (n < 10 ? `0${n}` : String(n));

/** Many messages of a log share their second. */
function bySecond(make: (d: Date) => string): (time: number | undefined) => string {
  let second = -1;
  let text = '';
  return (time) => {
    if (time === undefined) return '-';
    const s = Math.floor(time / 1e6);
    if (s !== second) {
      second = s;
      const d = new Date(s * 1000);
      text = Number.isNaN(d.getTime()) ? '-' : make(d);
    }
    return text;
  };
}
const clock = (d: Date) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
const shortTime = bySecond((d) => `${MONTHS[d.getMonth()]} ${two(d.getDate())} ${clock(d)}`);
export const isoTime = bySecond((d) => {
  const offset = -d.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${clock(d)}${zone}`;
});

/** The record as text with its line end; undefined when this form shows nothing of it. */
export function formatRecord(r: LogRecord, format: LogFormat): string | undefined {
  if (format === 'json') return `${JSON.stringify(r.json())}\n`;
  if (format === 'cat') return r.message === undefined ? undefined : `${printableText(r.message)}\n`;
  // A text log's own lines are what its reader knows.
  if (r.line !== undefined && (format !== 'short-iso' || r.hostname === undefined)) return `${printableText(r.line)}\n`;
  if (r.message === undefined && format !== 'guest') return undefined;
  // As virt-log has always shown it: the journal's own time, the trusted pid only, and the lines of a message as they are.
  const number = format === 'guest' ? r.trustedPid : r.pid;
  const pid = number === undefined ? '' : `[${number}]`;
  const name = `${r.identifier ?? 'unknown'}${pid}`;
  const head = printableText(
    format === 'guest'
      ? `${shortTime(r.taken ?? r.time)} ${name} ${PRIORITIES[r.priority ?? 6]}: `
      : `${format === 'short' ? shortTime(r.time) : isoTime(r.time)} ${r.hostname === undefined ? '' : `${r.hostname} `}${name}: `,
  );
  const message = printableText((r.message ?? '').replace(/\n+$/, ''));
  if (format === 'guest') return `${message === '' ? head.trimEnd() : head + message}\n`;
  return message.includes('\n') ? `${head}${message.replaceAll('\n', `\n${' '.repeat(head.length)}`)}\n` : `${head}${message}\n`;
}
