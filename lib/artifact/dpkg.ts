import { type Package, present } from './package.js';
import { packageVersion } from './package-version.js';

/**
 * dpkg's status file (deb-control(5) paragraphs): the packages whose state is "installed".  Also opkg's, which has the
 * same form, and the one-package files of distroless images (/var/lib/dpkg/status.d/NAME).
 */
export function parseDpkgStatus(
  text: string,
  options: { readonly anyState?: boolean; readonly format?: 'deb' | 'opkg' } = {},
): Package[] {
  const out: Package[] = [];
  for (const paragraph of paragraphs(text)) {
    const name = paragraph.get('package')?.trim();
    const version = paragraph.get('version')?.trim();
    if (name === undefined || version === undefined || name === '') continue;
    // "want flag state"; opkg and old tools leave fields out, so the state is looked for by its word.
    const state = paragraph.get('status')?.split(/\s+/);
    if (state === undefined ? options.anyState !== true : !state.includes('installed')) continue;
    // "Source: name (version)"
    const source = /^([^\s(]+)(?:\s*\(([^)]*)\))?/.exec(paragraph.get('source') ?? '');
    const description = paragraph.get('description') ?? '';
    const newline = description.indexOf('\n');
    const size = Number(paragraph.get('installed-size'));
    const installed = Number(paragraph.get('installed-time'));
    const format = options.format ?? 'deb';
    out.push(
      present({
        format,
        name,
        ...packageVersion(version),
        arch: paragraph.get('architecture')?.trim() ?? '',
        sourcePackage: source?.[1],
        sourceVersion: source?.[2],
        summary: description === '' ? undefined : newline < 0 ? description : description.slice(0, newline),
        description: newline < 0 ? undefined : foldedText(description.slice(newline + 1)),
        publisher: paragraph.get('maintainer'),
        url: paragraph.get('homepage'),
        license: paragraph.get('license'),
        // Kilobytes for dpkg, bytes for opkg.
        installedSize: size > 0 ? (format === 'deb' ? size * 1024 : size) : undefined,
        installedAt: installed > 0 ? installed : undefined,
      }),
    );
  }
  return out;
}

/** A long description: one leading space off each line, " ." is an empty line. */
const foldedText = (s: string) =>
  s
    .split('\n')
    .map((l) => (l === ' .' ? '' : l.replace(/^ /, '')))
    .join('\n');

/** RFC 822-like paragraphs; field names in lower case; continuation lines keep their leading space. */
export function* paragraphs(text: string): Generator<ReadonlyMap<string, string>> {
  let current = new Map<string, string>();
  let key: string | undefined;
  for (const line of text.split('\n')) {
    if (line.trim() === '') {
      if (current.size > 0) yield current;
      current = new Map();
      key = undefined;
    } else if (line[0] === ' ' || line[0] === '\t') {
      if (key !== undefined) current.set(key, `${current.get(key)}\n${line}`);
    } else {
      const colon = line.indexOf(':');
      if (colon <= 0) {
        key = undefined;
        continue;
      }
      key = line.slice(0, colon).toLowerCase();
      current.set(key, line.slice(colon + 1).trimStart());
    }
  }
  if (current.size > 0) yield current;
}
