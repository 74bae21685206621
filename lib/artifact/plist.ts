import { corrupt, hex } from '../core/errors.js';

/** A property list in XML, as Apple's DTD has it: dictionaries become maps. */
export type Plist = string | number | boolean | Uint8Array | readonly Plist[] | ReadonlyMap<string, Plist>;

const MAX_DEPTH = 64;
const ENTITY: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
const unescapeXml = (s: string) =>
  s.includes('&')
    ? s.replace(/&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-z]{2,4}));/g, (all, h?: string, d?: string, name?: string) => {
        if (name !== undefined) return ENTITY[name] ?? all;
        const n = h !== undefined ? Number.parseInt(h, 16) : Number(d);
        return n > 0 && n <= 0x10ffff ? String.fromCodePoint(n) : all;
      })
    : s;

interface Open {
  readonly tag: string;
  readonly items: Plist[];
  readonly map: Map<string, Plist>;
  key?: string | undefined;
}

interface TagToken {
  readonly name: string;
  readonly kind: 'open' | 'close' | 'empty';
  /** Where "<" stands, and the position after ">". */
  readonly from: number;
  readonly to: number;
}

/** The tags of the text; comments, declarations and the DTD are passed over.  Each byte is looked at once. */
function* tagsOf(text: string): Generator<TagToken> {
  for (let at = 0; ; ) {
    const from = text.indexOf('<', at);
    if (from < 0) return;
    const comment = text.startsWith('<!--', from);
    const end = text.indexOf(comment ? '-->' : '>', from);
    if (end < 0) return;
    at = end + (comment ? 3 : 1);
    if (comment || end - from > 1000) continue;
    const m = /^<(\/?)([A-Za-z]+)(?:\s[^/]*)?(\/?)>$/.exec(text.slice(from, at));
    if (m !== null) yield { name: m[2]!, kind: m[1] === '/' ? 'close' : m[3] === '/' ? 'empty' : 'open', from, to: at };
  }
}

/** One pass over the text; entities of a DTD are not expanded, so the result is no larger than the text. */
export function parsePlist(text: string): Plist {
  const stack: Open[] = [];
  let root: Plist | undefined;
  let scalar: TagToken | undefined;
  const add = (value: Plist) => {
    const top = stack[stack.length - 1];
    if (top === undefined) root ??= value;
    else if (top.tag === 'array') top.items.push(value);
    else if (top.key !== undefined) {
      top.map.set(top.key, value);
      top.key = undefined;
    }
  };
  for (const t of tagsOf(text)) {
    const container = t.name === 'dict' || t.name === 'array';
    if (t.name === 'plist') continue;
    if (t.kind === 'empty') {
      const value = emptyValue(t.name);
      if (value !== undefined) add(value);
    } else if (t.kind === 'open') {
      if (!container) scalar = t;
      else if (stack.length < MAX_DEPTH) stack.push({ tag: t.name, items: [], map: new Map() });
      else throw corrupt(`property list is nested deeper than ${MAX_DEPTH}`, { offset: t.from });
    } else if (container) {
      const top = stack.pop();
      if (top?.tag !== t.name) throw corrupt(`property list: </${t.name}> at ${hex(t.from)} closes nothing`);
      add(t.name === 'dict' ? top.map : top.items);
    } else if (t.name === scalar?.name) {
      const raw = unescapeXml(text.slice(scalar.to, t.from));
      scalar = undefined;
      const top = stack[stack.length - 1];
      if (t.name !== 'key') add(scalarValue(t.name, raw));
      else if (top !== undefined) top.key = raw;
    }
  }
  if (root === undefined) throw corrupt('property list without a value, or cut off');
  return root;
}

const emptyValue = (tag: string): Plist | undefined =>
  tag === 'true' || tag === 'false'
    ? tag === 'true'
    : tag === 'dict'
      ? new Map()
      : tag === 'array'
        ? []
        : tag === 'string'
          ? ''
          : undefined;
const scalarValue = (tag: string, raw: string): Plist =>
  tag === 'integer' || tag === 'real' ? Number(raw.trim()) : tag === 'data' ? Buffer.from(raw, 'base64') : raw;
