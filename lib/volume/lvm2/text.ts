import { corrupt } from '../../core/errors.js';

/** LVM's configuration text: nested sections, and values that are numbers, strings or lists of them. */
export type Value = string | number | readonly (string | number)[];
export interface Section {
  readonly values: ReadonlyMap<string, Value>;
  readonly sections: ReadonlyMap<string, Section>;
}

const MAX_DEPTH = 16;
const MAX_ITEMS = 2_000_000;

/** Parses a whole text; throws corrupt with the position in it. */
export function parseText(text: string): Section {
  let at = 0;
  let items = 0;
  const fail = (what: string): never => {
    throw corrupt(`LVM metadata text: ${what} at character ${at}`);
  };
  const skip = () => {
    for (;;) {
      const c = text.charCodeAt(at);
      if (c === 32 || (c >= 9 && c <= 13) || c === 0) at++;
      else if (c === 35) {
        const end = text.indexOf('\n', at);
        at = end < 0 ? text.length : end + 1;
      } else return;
    }
  };
  const NAME = /[A-Za-z0-9_.+\-/]+/y;
  const NUMBER = /[+-]?[0-9]+(?:\.[0-9]+)?/y;
  const name = (): string => {
    if (text[at] === '"') return string();
    NAME.lastIndex = at;
    const m = NAME.exec(text);
    if (m === null) return fail('expected a name');
    at += m[0].length;
    return m[0];
  };
  const string = (): string => {
    let out = '';
    for (at++; at < text.length; at++) {
      const c = text[at]!;
      if (c === '"') {
        at++;
        return out;
      }
      if (c === '\\') at++;
      out += text[at] ?? '';
    }
    return fail('a string does not end');
  };
  const scalar = (): string | number => {
    if (++items > MAX_ITEMS) fail(`more than ${MAX_ITEMS} values`);
    if (text[at] === '"') return string();
    NUMBER.lastIndex = at;
    const m = NUMBER.exec(text);
    if (m === null) return name();
    at += m[0].length;
    return Number(m[0]);
  };
  const value = (): Value => {
    if (text[at] !== '[') return scalar();
    const out: (string | number)[] = [];
    at++;
    for (;;) {
      skip();
      if (text[at] === ']') break;
      out.push(scalar());
      skip();
      if (text[at] === ',') at++;
      else if (text[at] !== ']') fail('expected , or ] in a list');
    }
    at++;
    return out;
  };
  const section = (depth: number): Section => {
    if (depth > MAX_DEPTH) fail(`sections nest deeper than ${MAX_DEPTH}`);
    const values = new Map<string, Value>();
    const sections = new Map<string, Section>();
    for (;;) {
      skip();
      if (at >= text.length) {
        if (depth > 0) fail('a section does not end');
        break;
      }
      if (text[at] === '}') {
        if (depth === 0) fail('a } too many');
        at++;
        break;
      }
      if (++items > MAX_ITEMS) fail(`more than ${MAX_ITEMS} values`);
      const key = name();
      skip();
      if (text[at] === '{') {
        at++;
        sections.set(key, section(depth + 1));
      } else if (text[at] === '=') {
        at++;
        skip();
        values.set(key, value());
      } else fail('expected = or {');
    }
    return { values, sections };
  };
  return section(0);
}

/** A whole number of a section; throws corrupt when it is missing or none. */
export function numberOf(s: Section, key: string, where: string): number {
  const v = s.values.get(key);
  if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 0)
    throw corrupt(`LVM metadata: ${where}: ${key} is ${v === undefined ? 'missing' : JSON.stringify(v)}`);
  return v;
}
export function stringOf(s: Section, key: string, where: string): string {
  const v = s.values.get(key);
  if (typeof v !== 'string')
    throw corrupt(`LVM metadata: ${where}: ${key} is ${v === undefined ? 'missing' : JSON.stringify(v)}`);
  return v;
}
export function listOf(s: Section, key: string): readonly (string | number)[] {
  const v = s.values.get(key);
  return v === undefined ? [] : Array.isArray(v) ? (v as readonly (string | number)[]) : [v as string | number];
}
