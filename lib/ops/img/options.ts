import { usage } from '../../core/errors.js';

/** QEMU's option strings: "a=1,b=x,,y,c" gives a: "1", b: "x,y", c: "on".  `implied` is the name of a first value without one. */
export function parseOptions(text: string, implied?: string): Map<string, string> {
  const map = new Map<string, string>();
  let first = true;
  for (const part of splitOptions(text)) {
    if (part === '') continue;
    const eq = part.indexOf('=');
    if (eq > 0) map.set(part.slice(0, eq), part.slice(eq + 1));
    else if (first && implied !== undefined) map.set(implied, part);
    else if (eq < 0)
      map.set(part.startsWith('no') && part.length > 2 ? part.slice(2) : part, part.startsWith('no') ? 'off' : 'on');
    else throw usage(`"${part}" is not NAME=VALUE`);
    first = false;
  }
  return map;
}

/** Split at single commas; two stand for one. */
function splitOptions(text: string): string[] {
  const parts: string[] = [];
  let now = '';
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ',') now += text[i];
    else if (text[i + 1] === ',') {
      now += ',';
      i++;
    } else {
      parts.push(now);
      now = '';
    }
  }
  parts.push(now);
  return parts;
}

/** A JSON object as dotted names, as QEMU flattens "json:{…}". */
export function flattenJson(text: string): Map<string, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw usage(`json: file name is not JSON: ${(e as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw usage('json: file name is not an object');
  const map = new Map<string, string>();
  const walk = (v: unknown, prefix: string, depth: number): void => {
    if (depth > 16) throw usage('json: file name is nested too deeply');
    if (typeof v !== 'object' || v === null) {
      map.set(prefix, v === true ? 'on' : v === false ? 'off' : String(v));
      return;
    }
    for (const [k, x] of Object.entries(v)) walk(x, prefix === '' ? k : `${prefix}.${k}`, depth + 1);
  };
  walk(value, '', 0);
  return map;
}

/** "on", "off" and what else QEMU takes for them. */
export function onOff(value: string, what: string): boolean {
  if (['on', 'yes', 'true', 'y'].includes(value)) return true;
  if (['off', 'no', 'false', 'n'].includes(value)) return false;
  throw usage(`${what}: "${value}" is not on or off`);
}
