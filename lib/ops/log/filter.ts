import type { LogRecord } from './record.js';

/** What is wanted of a log.  Every part that is given must hold. */
export interface LogFilter {
  /** µs since 1970, both inclusive. */
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  readonly priorities?: readonly [least: number, greatest: number] | undefined;
  /** Unit names or patterns with * and ?; ".service" may be left out. */
  readonly units?: readonly string[] | undefined;
  readonly identifiers?: readonly string[] | undefined;
  readonly kernel?: boolean | undefined;
  readonly grep?: RegExp | undefined;
  readonly bootId?: string | undefined;
}

/** Cheap questions first: the last ones read fields. */
export function filterOf(f: LogFilter): (r: LogRecord) => boolean {
  const units =
    f.units === undefined || f.units.length === 0 ? undefined : new RegExp(`^(?:${f.units.map(unitPattern).join('|')})$`);
  return (r) => {
    if (f.bootId !== undefined && r.bootId !== f.bootId) return false;
    if (f.since !== undefined && (r.time === undefined || r.time < f.since)) return false;
    if (f.until !== undefined && (r.time === undefined || r.time > f.until)) return false;
    if (f.kernel && !r.kernel) return false;
    if (f.priorities !== undefined) {
      const p = r.priority;
      if (p === undefined || p < f.priorities[0] || p > f.priorities[1]) return false;
    }
    if (f.identifiers !== undefined && f.identifiers.length > 0 && !f.identifiers.includes(r.identifier ?? '')) return false;
    if (units !== undefined && !r.units.some((u) => units.test(u))) return false;
    return f.grep === undefined || f.grep.test(r.message ?? '');
  };
}

const SUFFIX = /\.(service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$/;
const unitPattern = (u: string): string =>
  (SUFFIX.test(u) || /\*$/.test(u) ? u : `${u}.service`)
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
