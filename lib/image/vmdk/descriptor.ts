import { corrupt, unsupported } from '../../core/errors.js';
import { decodeName, encodeName, latin1 } from '../../core/text.js';

export const NO_PARENT = 0xffffffff;
/** Text descriptors are a few KiB; one that lists 64 TB in 2 GB extents has 2 MiB. */
export const MAX_DESCRIPTOR = 4 << 20;
const MAX_EXTENTS = 65536;

export type Access = 'RW' | 'RDONLY' | 'NOACCESS';
export interface ExtentLine {
  readonly access: Access;
  readonly sectors: number;
  /** FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, SESPARSE, … */
  readonly type: string;
  readonly name: string | undefined;
  /** In sectors, FLAT only. */
  readonly offset: number;
}

export interface Descriptor {
  readonly version: number;
  readonly cid: number;
  readonly parentCid: number;
  readonly createType: string;
  readonly parentHint: string | undefined;
  readonly encoding: string | undefined;
  readonly extents: readonly ExtentLine[];
  /** Every `key = value` line, ddb.* and unknown ones too, in order of appearance; values without their quotes. */
  readonly values: ReadonlyMap<string, string>;
}

/** True when the bytes begin as a text descriptor does. */
export function looksLikeDescriptor(head: Uint8Array): boolean {
  const text = latin1(head.subarray(0, 2048));
  for (const line of text.split(/\r\n|\n|\r/)) {
    const t = line.trim();
    if (/^#\s*Disk\s+DescriptorFile\s*$/i.test(t)) return true;
    if (t === '' || t.startsWith('#')) continue;
    return /^version\s*=\s*[1-9]\s*$/i.test(t);
  }
  return false;
}

const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d{1,16})\s+([A-Za-z0-9_]+)(?:\s+"([^"]*)"(?:\s+(\d{1,16}))?)?/i;
const SETTING = /^([^=\s"]+)\s*=\s*(.*)$/;

export function parseDescriptor(raw: Uint8Array, label: string): Descriptor {
  const end = raw.indexOf(0);
  const bytes = end < 0 ? raw : raw.subarray(0, end);
  // Keys and numbers are ASCII in every encoding; the declared one is known only after a first look.
  const encoding = /^\s*encoding\s*=\s*"?([A-Za-z0-9_-]+)"?\s*$/im.exec(latin1(bytes))?.[1];
  const text = decode(bytes, encoding);
  const values = new Map<string, string>();
  const extents: ExtentLine[] = [];
  for (const line of text.split(/\r\n|\n|\r/)) {
    const t = line.trim();
    if (t === '' || t.startsWith('#')) continue;
    const e = EXTENT.exec(t);
    if (e !== null) {
      if (extents.length >= MAX_EXTENTS) throw corrupt(`${label}: descriptor has more than ${MAX_EXTENTS} extents`);
      extents.push({
        access: e[1]!.toUpperCase() as Access,
        sectors: Number(e[2]),
        type: e[3]!.toUpperCase(),
        name: e[4],
        offset: Number(e[5] ?? 0),
      });
      continue;
    }
    const s = SETTING.exec(t);
    // The first one counts, as for VMware; a second parentCID line must not override it.
    if (s !== null && !values.has(s[1]!)) values.set(s[1]!, unquote(s[2]!.trim()));
  }
  const find = (key: string): string | undefined =>
    values.get(key) ?? [...values].find(([k]) => k.toLowerCase() === key.toLowerCase())?.[1];
  const version = Number(find('version') ?? 1);
  if (!(version >= 1 && version <= 4))
    throw unsupported(`${label}: descriptor version ${find('version')} is not supported (1 to 4 are)`);
  const createType = find('createType');
  if (createType === undefined) throw corrupt(`${label}: descriptor has no createType`);
  return {
    version,
    cid: hexNumber(find('CID'), 'CID', label) ?? 0,
    parentCid: hexNumber(find('parentCID'), 'parentCID', label) ?? NO_PARENT,
    createType,
    parentHint: find('parentFileNameHint'),
    encoding,
    extents,
    values,
  };
}

function unquote(s: string): string {
  const m = /^"(.*)"$/s.exec(s);
  return m === null ? s : m[1]!;
}

function hexNumber(text: string | undefined, what: string, label: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^(0x)?[0-9a-fA-F]{1,8}$/.test(text)) throw corrupt(`${label}: ${what} "${text}" is not a 32-bit hexadecimal number`);
  return Number.parseInt(text, 16);
}

function decode(bytes: Uint8Array, encoding: string | undefined): string {
  if (encoding === undefined || /^utf-?8$/i.test(encoding)) return decodeName(bytes);
  try {
    return new TextDecoder(encoding).decode(bytes);
  } catch {
    return decodeName(bytes);
  }
}

/** The same bytes with another CID.  Only that line changes: comments, unknown keys and line ends stay. */
export function withCid(raw: Uint8Array, cid: number): Uint8Array {
  const end = raw.indexOf(0);
  const text = latin1(end < 0 ? raw : raw.subarray(0, end));
  const next = text.replace(/^(\s*CID\s*=\s*)[0-9a-fA-Fx]+/m, (_all, key: string) => key + hex8(cid));
  return Uint8Array.from(Buffer.from(next, 'latin1'));
}

export const hex8 = (n: number) => (n >>> 0).toString(16).padStart(8, '0');

export interface NewDescriptor {
  readonly cid: number;
  readonly parentCid: number;
  readonly createType: string;
  readonly parentHint?: string | undefined;
  readonly extents: readonly string[];
  readonly hwVersion: string;
  readonly cylinders: number;
  readonly heads: number;
  readonly adapterType: string;
  readonly toolsVersion: string;
}

export function encodeDescriptor(d: NewDescriptor): Uint8Array {
  const lines = [
    '# Disk DescriptorFile',
    'version=1',
    `CID=${hex8(d.cid)}`,
    `parentCID=${hex8(d.parentCid)}`,
    `createType="${d.createType}"`,
    ...(d.parentHint === undefined ? [] : [`parentFileNameHint="${d.parentHint}"`]),
    '',
    '# Extent description',
    ...d.extents,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    `ddb.virtualHWVersion = "${d.hwVersion}"`,
    `ddb.geometry.cylinders = "${d.cylinders}"`,
    `ddb.geometry.heads = "${d.heads}"`,
    'ddb.geometry.sectors = "63"',
    `ddb.adapterType = "${d.adapterType}"`,
    `ddb.toolsVersion = "${d.toolsVersion}"`,
    '',
  ];
  return encodeName(lines.join('\n'));
}
