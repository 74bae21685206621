import { type Package, present } from './package.js';

/**
 * A flatpak application by its ID, its deploy folder's metadata file (an ini file) and its AppStream description, from which
 * only the untranslated name, summary, licence and newest release are taken.
 */
export function flatpakPackage(id: string, metadata: string, appstream: string | undefined): Package | undefined {
  const runtime = /^runtime=[^/\n]+\/([^/\n]+)\/([^/\n]+)\s*$/m.exec(metadata);
  const xml = (appstream ?? '').slice(0, 1 << 20);
  const element = (tag: string) => {
    const m = new RegExp(`<${tag}>([^<]{1,1000})</${tag}>`).exec(xml);
    return m === null ? undefined : m[1]!.trim() || undefined;
  };
  const release = /<release\s[^>]{0,200}?version="([^"]{1,200})"/.exec(xml);
  return present({
    format: 'flatpak' as const,
    name: id,
    epoch: 0,
    version: release?.[1] ?? '',
    release: '',
    arch: runtime?.[1] ?? '',
    summary: element('summary') ?? element('name'),
    publisher: element('developer_name'),
    license: element('project_license'),
  });
}
