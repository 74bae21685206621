import { type Package, present } from './package.js';

/** "name-version[-rN]" as Gentoo's PMS (3.2) splits it; undefined when there is no version. */
export function splitPf(pf: string): { readonly name: string; readonly version: string; readonly release: string } | undefined {
  // No file system has longer names.
  if (pf.length > 255) return undefined;
  const m = /^(.+?)-([0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*)(?:-(r[0-9]+))?$/.exec(pf);
  return m === null ? undefined : { name: m[1]!, version: m[2]!, release: m[3] ?? '' };
}

/** One package of portage: /var/db/pkg/CATEGORY/PF, a folder with one small file a value. */
export function portagePackage(category: string, pf: string, file: (name: string) => string | undefined): Package | undefined {
  const value = (name: string) => file(name)?.trim() || undefined;
  const parts = splitPf(value('PF') ?? pf);
  if (parts === undefined) return undefined;
  const size = Number(value('SIZE'));
  const built = Number(value('BUILD_TIME'));
  return present({
    format: 'ebuild' as const,
    name: `${value('CATEGORY') ?? category}/${parts.name}`,
    epoch: 0,
    version: parts.version,
    release: parts.release,
    arch: value('CHOST')?.split('-')[0] ?? '',
    summary: value('DESCRIPTION'),
    url: value('HOMEPAGE')?.split(/\s+/)[0],
    license: value('LICENSE'),
    slot: value('SLOT'),
    repository: value('repository'),
    installedSize: size > 0 ? size : undefined,
    installedAt: built > 0 ? built : undefined,
  });
}
