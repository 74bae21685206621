import type { Package } from '../../artifact/package.js';

/** Percent encoding of the package URL specification: unreserved characters and ":" stay. */
const encode = (s: string): string =>
  encodeURIComponent(s.replace(/[\ud800-\udfff]/gu, '\ufffd'))
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%3A', ':');

/** As the package manager writes a version: with epoch and release. */
export function fullVersion(p: Package): string {
  const epoch = p.epoch === 0 ? '' : `${p.epoch}:`;
  const mark = p.format === 'xbps' ? '_' : '-';
  return `${epoch}${p.version}${p.release === '' ? '' : `${mark}${p.release}`}`;
}

/** os-release IDs that package URLs spell otherwise. */
const NAMESPACE: Readonly<Record<string, string>> = { rhel: 'redhat' };

interface System {
  readonly id: string;
  readonly version: string;
}

/** The package URL of a guest's package: github.com/package-url/purl-spec, types deb, rpm, apk, alpm; others as "generic". */
export function purlOf(p: Package, system: System): string {
  const vendor = (NAMESPACE[system.id] ?? system.id).toLowerCase();
  const qualifiers = new Map<string, string>();
  if (p.arch !== '') qualifiers.set('arch', p.arch);
  qualifiers.set('distro', system.version === '' ? system.id : `${system.id}-${system.version}`);
  switch (p.format) {
    case 'deb':
      return purl('deb', vendor, p.name.toLowerCase(), fullVersion(p), qualifiers);
    case 'rpm':
      // An rpm's epoch is a qualifier, and not part of the version.
      if (p.epoch !== 0) qualifiers.set('epoch', String(p.epoch));
      return purl('rpm', vendor, p.name, p.release === '' ? p.version : `${p.version}-${p.release}`, qualifiers);
    case 'apk':
      return purl('apk', vendor, p.name.toLowerCase(), fullVersion(p), qualifiers);
    case 'pacman':
      return purl('alpm', vendor, p.name.toLowerCase(), fullVersion(p), qualifiers);
    case 'ebuild': {
      const slash = p.name.indexOf('/');
      if (p.slot !== undefined) qualifiers.set('slot', p.slot);
      return purl('ebuild', p.name.slice(0, Math.max(0, slash)), p.name.slice(slash + 1), fullVersion(p), qualifiers);
    }
    default:
      qualifiers.set('package_type', p.format);
      return purl('generic', p.format === 'flatpak' || p.format === 'snap' ? '' : vendor, p.name, fullVersion(p), qualifiers);
  }
}

export function purl(
  type: string,
  namespace: string,
  name: string,
  version: string,
  qualifiers: ReadonlyMap<string, string>,
): string {
  const segments = namespace.split('/').filter((s) => s !== '' && s !== '.' && s !== '..');
  const path = [...segments, name].map(encode).join('/');
  const query = [...qualifiers]
    .filter(([, v]) => v !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${encode(v)}`)
    .join('&');
  return `pkg:${type}/${path}${version === '' ? '' : `@${encode(version)}`}${query === '' ? '' : `?${query}`}`;
}
