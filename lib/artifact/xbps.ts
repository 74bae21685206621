import { type Package, present } from './package.js';
import { type Plist, parsePlist } from './plist.js';

/** Void Linux's /var/db/xbps/pkgdb-0.38.plist: a dictionary of dictionaries by package name. */
export function parseXbpsDatabase(text: string): Package[] {
  const out: Package[] = [];
  const root = parsePlist(text);
  if (!(root instanceof Map)) return out;
  for (const [name, entry] of root as ReadonlyMap<string, Plist>) {
    // "_XBPS_ALTERNATIVES_" and its like are the database's own.
    if (!(entry instanceof Map) || name.startsWith('_')) continue;
    const fields = entry as ReadonlyMap<string, Plist>;
    const text = (key: string) => {
      const v = fields.get(key);
      return typeof v === 'string' && v !== '' ? v : undefined;
    };
    const number = (key: string) => {
      const v = fields.get(key);
      return typeof v === 'number' && v > 0 ? v : undefined;
    };
    const state = text('state');
    const full = text('pkgver');
    if (full === undefined || (state !== undefined && state !== 'installed')) continue;
    const version = full.startsWith(`${name}-`) ? full.slice(name.length + 1) : full.slice(full.lastIndexOf('-') + 1);
    const underscore = version.lastIndexOf('_');
    const date = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d)(?: UTC)?$/.exec(text('install-date') ?? '');
    out.push(
      present({
        format: 'xbps' as const,
        name,
        epoch: 0,
        version: underscore < 0 ? version : version.slice(0, underscore),
        release: underscore < 0 ? '' : version.slice(underscore + 1),
        arch: text('architecture') ?? '',
        sourcePackage: text('source-revisions')?.split(':')[0],
        summary: text('short_desc'),
        description: text('long_desc'),
        publisher: text('maintainer'),
        url: text('homepage'),
        license: text('license'),
        repository: text('repository'),
        installedSize: number('installed_size'),
        installedAt: date === null ? undefined : Date.parse(`${date[1]}T${date[2]}:00Z`) / 1000,
      }),
    );
  }
  return out;
}
