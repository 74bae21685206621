import { type Package, present } from './package.js';
import { packageVersion } from './package-version.js';

/** One package of pacman: /var/lib/pacman/local/NAME-VERSION/desc, sections "%KEY%", a line a value, an empty line. */
export function parsePacmanDesc(text: string): Package | undefined {
  const section = new Map<string, string[]>();
  let values: string[] | undefined;
  for (const line of text.split('\n')) {
    const key = /^%([A-Z0-9]+)%\s*$/.exec(line);
    if (key !== null) section.set(key[1]!, (values = []));
    else if (line.trim() === '') values = undefined;
    else values?.push(line.trim());
  }
  const first = (key: string) => section.get(key)?.[0];
  const name = first('NAME');
  const version = first('VERSION');
  if (name === undefined || version === undefined) return undefined;
  const size = Number(first('SIZE'));
  const installed = Number(first('INSTALLDATE'));
  return present({
    format: 'pacman' as const,
    name,
    ...packageVersion(version),
    arch: first('ARCH') ?? '',
    sourcePackage: first('BASE'),
    summary: first('DESC'),
    publisher: first('PACKAGER'),
    url: first('URL'),
    license: licenses(section.get('LICENSE')),
    installedSize: size > 0 ? size : undefined,
    installedAt: installed > 0 ? installed : undefined,
  });
}

/** Several licences are several to be kept: pacman lists them, it knows no choice. */
const licenses = (list: readonly string[] | undefined): string | undefined =>
  list === undefined || list.length === 0
    ? undefined
    : list.map((l) => (list.length > 1 && / OR /.test(l) ? `(${l})` : l)).join(' AND ');
