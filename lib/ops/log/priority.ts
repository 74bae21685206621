import { usage } from '../../core/errors.js';

/** syslog's priorities, most urgent first. */
export const PRIORITIES = ['emerg', 'alert', 'crit', 'err', 'warning', 'notice', 'info', 'debug'] as const;
const ALIAS: Readonly<Record<string, number>> = { panic: 0, error: 3, warn: 4 };

/** "err", "3" (that and more urgent ones), "warning..err", "4..4": the least and the greatest number. */
export function parsePriorities(text: string): readonly [least: number, greatest: number] {
  const ends = text.split('..');
  const numbers = ends.map((e) => {
    const name = e.trim().toLowerCase();
    const n = /^[0-7]$/.test(name) ? Number(name) : (ALIAS[name] ?? (PRIORITIES as readonly string[]).indexOf(name));
    if (n < 0 || ends.length > 2)
      throw usage(
        `--priority: "${text}" is not a priority (expected 0 to 7, ${PRIORITIES.join(', ')}, or a range such as err..warning)`,
      );
    return n;
  });
  const [a, b] = numbers as [number, number?];
  return b === undefined ? [0, a] : [Math.min(a, b), Math.max(a, b)];
}
