import { hasInvalidBytes } from '../../core/text.js';
import type { JournalEntry, JournalField } from './entry.js';

/** Control characters make a value "binary" for journalctl; tab and newline do not. */
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;

const jsonValue = (f: JournalField): string | number[] => {
  const text = f.text;
  return CONTROL.test(text) || hasInvalidBytes(text) ? Array.from(f.value) : text;
};

/** An entry as `journalctl -o json --all` has it: values that are no printable text as arrays of bytes, repeated fields as arrays. */
export function journalJson(e: JournalEntry): Record<string, unknown> {
  const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  out['__CURSOR'] = e.cursor;
  out['__REALTIME_TIMESTAMP'] = String(e.realtime);
  out['__MONOTONIC_TIMESTAMP'] = String(e.monotonic);
  out['__SEQNUM'] = String(e.seqnum);
  out['__SEQNUM_ID'] = e.file.seqnumId;
  out['_BOOT_ID'] = e.bootId;
  const repeated = new Map<string, unknown[]>();
  for (const f of e.fields) {
    // The entry's own boot wins over a field of that name, which says the same.
    if (f.name === '_BOOT_ID') continue;
    const value = jsonValue(f);
    const list = repeated.get(f.name);
    if (list !== undefined) list.push(value);
    else {
      repeated.set(f.name, [value]);
      out[f.name] = value;
    }
  }
  for (const [name, list] of repeated) if (list.length > 1) out[name] = list;
  return out;
}
