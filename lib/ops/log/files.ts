import { bunzip2, gunzip, unxz, unzstd } from '../../core/codec.js';
import { within } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import type { Node } from '../../filesystem/driver.js';
import { readNode, type Tree } from '../../filesystem/walk.js';

/** The text logs that hold "everything", the first one found is it. */
const CANDIDATES = ['/var/log/syslog', '/var/log/messages', '/var/log/everything.log', '/var/log/all.log'];
const DECODE: Readonly<Record<string, (b: Uint8Array, maxBytes: number) => Uint8Array>> = {
  gz: gunzip,
  xz: unxz,
  zst: unzstd,
  bz2: bunzip2,
};
const MAX_PACKED = 128 << 20;
const MAX_UNPACKED = 512 << 20;
/** A longer line is given in parts. */
const MAX_LINE = 1 << 20;

export interface LogFile {
  readonly path: string;
  readonly node: Node;
  readonly decode?: (b: Uint8Array, maxBytes: number) => Uint8Array;
}

/** The guest's main text log, with `all` the rotated ones before it, oldest first. */
export function textLogs(tree: Tree, all: boolean): readonly LogFile[] {
  const path = CANDIDATES.find((p) => tree.isFile(p) || (all && rotations(tree, p).length > 0));
  if (path === undefined) return [];
  const current = tree.isFile(path) ? [{ path, node: tree.get(path).node }] : [];
  return all ? [...rotations(tree, path), ...current] : current;
}

/** syslog.1, syslog.2.gz, …: higher is older.  messages-20240131, messages-20240131-1706700000.xz: higher is newer. */
function rotations(tree: Tree, path: string): readonly LogFile[] {
  const base = path.slice(path.lastIndexOf('/') + 1);
  const dir = path.slice(0, path.lastIndexOf('/'));
  const found: { readonly file: LogFile; readonly dated: boolean; readonly key: string }[] = [];
  for (const name of tree.names(dir)) {
    if (!name.startsWith(base)) continue;
    const m = /^(?:\.(\d{1,9})|[.-](\d{4}-?\d\d-?\d\d(?:[-.]?\d{1,12})?))(?:\.(gz|xz|zst|bz2))?$/.exec(name.slice(base.length));
    const full = `${dir}/${name}`;
    if (m === null || !tree.isFile(full)) continue;
    const decode = m[3] === undefined ? undefined : DECODE[m[3]];
    // "syslog.20240131" is a date, "syslog.12" a number.
    const dated = m[2] !== undefined || m[1]!.length === 8;
    const key = dated ? (m[2] ?? m[1]!).replace(/[-.]/g, '').padEnd(20, '0') : m[1]!.padStart(20, '0');
    found.push({ file: { path: full, node: tree.get(full).node, ...(decode === undefined ? {} : { decode }) }, dated, key });
  }
  const order = (a: (typeof found)[number], b: (typeof found)[number]) =>
    a.dated !== b.dated ? (a.dated ? -1 : 1) : (a.key < b.key ? -1 : 1) * (a.dated ? 1 : -1);
  return found.sort(order).map((f) => f.file);
}

/** The lines of a log from a byte position on, without their ends; `position` is where the next one would start. */
export function* logLines(file: LogFile, from = 0): Generator<{ readonly line: string; readonly position: number }> {
  let position = from;
  for (const b of chunks(file, from)) {
    for (let at = 0; at < b.length; ) {
      let end = b.indexOf(10, at);
      const next = end < 0 ? b.length : end + 1;
      if (end < 0) end = b.length;
      if (end > at && b[end - 1] === 13) end--;
      position += next - at;
      yield { line: decodeName(b.subarray(at, end)), position };
      at = next;
    }
  }
}

/** Pieces that end with a line's end, but for the last one and for lines that are too long. */
function* chunks(file: LogFile, from: number): Generator<Uint8Array> {
  if (file.decode !== undefined) {
    const packed = readNode(file.node, file.path, MAX_PACKED);
    const whole = within({ path: file.path }, () => file.decode!(packed, MAX_UNPACKED));
    yield from === 0 ? whole : whole.subarray(from);
    return;
  }
  const buffer = new Uint8Array(MAX_LINE);
  let kept = 0;
  for (let at = from; ; ) {
    const n = file.node.read(buffer.subarray(kept), at);
    at += n;
    const length = kept + n;
    if (n === 0) {
      if (kept > 0) yield buffer.subarray(0, kept);
      return;
    }
    const last = buffer.lastIndexOf(10, length - 1);
    const whole = last < 0 ? (length === buffer.length ? length : 0) : last + 1;
    if (whole > 0) yield buffer.subarray(0, whole);
    buffer.copyWithin(0, whole, length);
    kept = length - whole;
  }
}
