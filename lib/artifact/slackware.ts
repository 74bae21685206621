import { type Package, present } from './package.js';

/** One file of /var/lib/pkgtools/packages: NAME-VERSION-ARCH-BUILD, inside a few headings and the list of files. */
export function slackwarePackage(fileName: string, text: string): Package | undefined {
  const parts = /^(.+)-([^-]+)-([^-]+)-([^-]+)$/.exec(fileName);
  if (parts === null) return undefined;
  const name = parts[1]!;
  const head = text.slice(0, 65536);
  const size = /^UNCOMPRESSED PACKAGE SIZE:\s*([0-9.]+)\s*([KMG]?)/m.exec(head);
  const unit = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[size?.[2] ?? ''] ?? 1;
  const described = head.indexOf('\nPACKAGE DESCRIPTION:');
  const files = head.indexOf('\nFILE LIST:', described);
  const lines = (described < 0 ? '' : head.slice(described + 1, files < 0 ? undefined : files))
    .split('\n')
    .filter((l) => l.startsWith(`${name}:`))
    .map((l) => l.slice(name.length + 1).trim());
  return present({
    format: 'slackware' as const,
    name,
    epoch: 0,
    version: parts[2]!,
    release: parts[4]!,
    arch: parts[3]!,
    summary: lines[0] === undefined ? undefined : (/^[^(]*\((.+)\)$/.exec(lines[0])?.[1] ?? lines[0]) || undefined,
    description: lines.slice(1).join('\n').trim() || undefined,
    installedSize: size === null ? undefined : Math.round(Number(size[1]) * unit),
  });
}
