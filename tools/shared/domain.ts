import { spawnSync } from 'node:child_process';
import { type DiskSpec, GuestError } from '../../lib/index.js';

/** The disks of a libvirt domain, by `virsh dumpxml` where virsh is installed. */
export async function domainDisks(name: string, connect: string | undefined): Promise<readonly DiskSpec[]> {
  const xml = virsh(connect, 'dumpxml', name);
  const { XMLParser } = await import('fast-xml-parser');
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '@',
    isArray: (tag) => tag === 'disk' || tag === 'host',
  });
  const domain = (parser.parse(xml) as { domain?: { devices?: { disk?: readonly DiskElement[] } } }).domain;
  const out: DiskSpec[] = [];
  for (const d of domain?.devices?.disk ?? []) {
    if (d['@device'] !== undefined && d['@device'] !== 'disk' && d['@device'] !== 'lun') continue;
    const path = d.source?.['@file'] ?? d.source?.['@dev'] ?? remote(d);
    if (path === undefined) continue;
    const format = d.driver?.['@type'];
    const size = Number(d.blockio?.['@logical_block_size'] ?? 512);
    out.push({ path, ...(format === undefined ? {} : { format }), ...(size === 512 ? {} : { sectorSize: size }) });
  }
  if (out.length === 0) throw new GuestError('not-found', 'libvirt domain has no disks', { path: name });
  return out;
}

interface DiskElement {
  readonly '@device'?: string;
  readonly source?: {
    readonly '@file'?: string;
    readonly '@dev'?: string;
    readonly '@protocol'?: string;
    readonly '@name'?: string;
    readonly host?: readonly { readonly '@name'?: string; readonly '@port'?: string }[];
  };
  readonly driver?: { readonly '@type'?: string };
  readonly blockio?: { readonly '@logical_block_size'?: string };
}

function remote(d: DiskElement): string | undefined {
  const s = d.source;
  if (s?.['@protocol'] === undefined) return undefined;
  const host = s.host?.[0];
  const name = s['@name'] ?? '';
  return `${s['@protocol']}://${host?.['@name'] ?? ''}${host?.['@port'] === undefined ? '' : `:${host['@port']}`}${name.startsWith('/') ? '' : '/'}${name}`;
}

function virsh(connect: string | undefined, ...args: readonly string[]): string {
  const r = spawnSync('virsh', [...(connect === undefined ? [] : ['-c', connect]), '-r', ...args], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (r.error !== undefined)
    throw new GuestError(
      'not-found',
      (r.error as NodeJS.ErrnoException).code === 'ENOENT'
        ? 'virsh is not installed: domains cannot be looked up by name; name the disks with -a'
        : r.error.message,
      { op: 'virsh' },
    );
  if (r.status !== 0)
    throw new GuestError(
      'not-found',
      `virsh ${args.join(' ')}: ${r.stderr
        .trim()
        .replace(/^error: /gm, '')
        .replaceAll('\n', '; ')}`,
    );
  return r.stdout;
}

/** Names of all domains, for the tools that look at every guest when none is named. */
export const allDomains = (connect: string | undefined): readonly string[] =>
  virsh(connect, 'list', '--all', '--name')
    .split('\n')
    .map((s) => s.trim())
    .filter((s) => s !== '');

export const domainUuid = (name: string, connect: string | undefined): string => virsh(connect, 'domuuid', name).trim();
