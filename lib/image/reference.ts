import { GuestError } from '../core/errors.js';

/** A file named inside an image, or on a command line. */
export interface FileName {
  readonly kind: 'path' | 'remote';
  /** Path or address. */
  readonly name: string;
  readonly format?: string;
}

/** As QEMU tells them: a colon before any slash makes a protocol. */
const PROTOCOL = /^[A-Za-z][A-Za-z0-9+.-]*:/;

/** Understands "path", "file:path", "nbd://…", and `json:{"driver":"qcow2","file":{"driver":"file","filename":"…"}}`. */
export function parseFileName(text: string): FileName {
  if (text.startsWith('json:')) return fromJson(text.slice(5));
  if (text.startsWith('file:')) return { kind: 'path', name: text.slice(5).replace(/^\/\/(?=\/)/, '') };
  return { kind: PROTOCOL.test(text) ? 'remote' : 'path', name: text };
}

function fromJson(text: string): FileName {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new GuestError('corrupt', `json: file name is not JSON: ${(e as Error).message}`);
  }
  const flat = new Map<string, string>();
  flatten(value, '', flat, 0);
  const driver = flat.get('driver');
  // {"driver":"file","filename":…} is the file itself, everything else a format over a file.
  const isFile = driver === 'file' || driver === 'host_device';
  const inner = isFile ? driver : flat.get('file.driver');
  const filename = isFile ? flat.get('filename') : (flat.get('file.filename') ?? flat.get('filename'));
  if (inner !== undefined && inner !== 'file' && inner !== 'host_device') return { kind: 'remote', name: `json:${text}` };
  if (filename === undefined) {
    if (driver !== undefined && !isFile && inner === undefined) return { kind: 'remote', name: `json:${text}` };
    throw new GuestError('corrupt', 'json: file name without a "filename"');
  }
  const known = new Set([
    'driver',
    'filename',
    'file.driver',
    'file.filename',
    'read-only',
    'cache.direct',
    'cache.no-flush',
    'discard',
  ]);
  for (const key of flat.keys())
    if (
      !known.has(key) &&
      !/^(file\.)?(locking|aio|cache\..*|read-only|auto-read-only|discard|detect-zeroes|node-name)$/.test(key)
    )
      throw new GuestError('unsupported', `json: file name with "${key}" is not supported`);
  const parsed = inner === undefined ? parseFileName(filename) : { kind: 'path' as const, name: filename };
  return driver === undefined || isFile ? parsed : { ...parsed, format: driver };
}

function flatten(value: unknown, prefix: string, out: Map<string, string>, depth: number): void {
  if (depth > 16) throw new GuestError('corrupt', 'json: file name is nested too deeply');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    if (prefix === '') throw new GuestError('corrupt', 'json: file name is not an object');
    out.set(prefix, String(value));
    return;
  }
  for (const [k, v] of Object.entries(value)) flatten(v, prefix === '' ? k : `${prefix}.${k}`, out, depth + 1);
}
