import { type Package, present } from './package.js';
import { packageVersion } from './package-version.js';

/** Alpine's /lib/apk/db/installed: paragraphs of one-letter fields; F:, R: and what follows them are the package's files. */
export function parseApkInstalled(text: string): Package[] {
  const out: Package[] = [];
  for (const paragraph of text.split(/\n[ \t\r]*\n/)) {
    const field = new Map<string, string>();
    for (const line of paragraph.split('\n')) {
      if (line[1] !== ':') continue;
      const key = line[0]!;
      if (key === 'F') break;
      if (!field.has(key)) field.set(key, line.slice(2).trim());
    }
    const name = field.get('P');
    const version = field.get('V');
    if (!name || !version) continue;
    const size = Number(field.get('I'));
    out.push(
      present({
        format: 'apk' as const,
        name,
        ...packageVersion(version),
        arch: field.get('A') ?? '',
        sourcePackage: field.get('o') || undefined,
        summary: field.get('T') || undefined,
        publisher: field.get('m') || undefined,
        url: field.get('U') || undefined,
        license: field.get('L') || undefined,
        installedSize: size > 0 ? size : undefined,
      }),
    );
  }
  return out;
}
