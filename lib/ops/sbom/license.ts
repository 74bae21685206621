import { createRequire } from 'node:module';

/** An SPDX licence expression, or the words that the distribution uses. */
export type License = { readonly expression: string } | { readonly names: readonly string[] };

const require = createRequire(import.meta.url);
let parser: ((expression: string) => unknown) | undefined;

/** True for an expression that is valid as it stands, with identifiers from the SPDX list. */
export function isSpdxExpression(text: string): boolean {
  // The parser is recursive; real expressions are short.
  if (text.length > 2000) return false;
  parser ??= require('spdx-expression-parse') as (expression: string) => unknown;
  try {
    parser(text);
    return true;
  } catch {
    return false;
  }
}

/** What a database's licence field says. */
export function licenseOf(text: string): License | undefined {
  const t = text.trim().replace(/\s+/g, ' ');
  if (t === '' || /^(?:unknown|none|noassertion|custom)$/i.test(t)) return undefined;
  // SPDX wants its operators in capitals; databases are not so strict.
  const expression = t.replace(/(?<=\s|\))(?:and|or|with)(?=\s|\()/gi, (m) => m.toUpperCase());
  return isSpdxExpression(expression) ? { expression } : { names: [t.slice(0, 1000)] };
}

/** Short names of Debian's copyright format that are spelled otherwise than SPDX. */
const DEBIAN: Readonly<Record<string, string>> = {
  expat: 'MIT',
  'bsd-2-clause': 'BSD-2-Clause',
  'bsd-3-clause': 'BSD-3-Clause',
  'bsd-4-clause': 'BSD-4-Clause',
  'apache-2': 'Apache-2.0',
  artistic: 'Artistic-1.0-Perl',
  zlib: 'Zlib',
  isc: 'ISC',
  'cc0-1.0': 'CC0-1.0',
  'mpl-1.1': 'MPL-1.1',
  'mpl-2.0': 'MPL-2.0',
  psf: 'PSF-2.0',
  bzip2: 'bzip2-1.0.6',
};

/** One of Debian's short names as SPDX, or undefined when it has no counterpart there ("public-domain", "other"). */
function debianName(name: string): string | undefined {
  const gnu = /^(A?GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(?:\.0)?(\+)?$/i.exec(name);
  const candidate =
    gnu === null
      ? (DEBIAN[name.toLowerCase()] ?? name)
      : `${gnu[1]!.toUpperCase()}-${gnu[2]}.${gnu[3] ?? '0'}-${gnu[4] === undefined ? 'only' : 'or-later'}`;
  return isSpdxExpression(candidate) ? candidate : undefined;
}

/** "GPL-2+ or Artistic" and the like: names joined by and, or, commas. */
function debianExpression(text: string): string | undefined {
  const parts = text.split(/(,?\s+(?:and|or)\s+)/i);
  let out = '';
  for (const [i, part] of parts.entries()) {
    if (i % 2 === 1) {
      // A comma binds less than "and", which SPDX says with parentheses.
      if (part.startsWith(',')) out = `(${out})`;
      out += / or /i.test(part) ? ' OR ' : ' AND ';
      continue;
    }
    const name = debianName(part.trim());
    if (name === undefined) return undefined;
    out += name;
  }
  return isSpdxExpression(out) ? out : undefined;
}

/** The licences in a Debian copyright file of the machine-readable form; all of them hold, each for its files. */
export function debianCopyright(text: string): License | undefined {
  if (!/^Format:/m.test(text.slice(0, 2000))) return undefined;
  const names = new Set<string>();
  for (const m of text.matchAll(/^License:[ \t]*(\S[^\n]*)$/gm)) {
    names.add(m[1]!.trim().replace(/\s+/g, ' '));
    if (names.size >= 100) break;
  }
  if (names.size === 0) return undefined;
  const expressions = [...names].map(debianExpression);
  if (expressions.some((e) => e === undefined)) return { names: [...names] };
  const all = [...new Set(expressions as string[])];
  const joined = all.map((e) => (all.length > 1 && / OR /.test(e) ? `(${e})` : e)).join(' AND ');
  return isSpdxExpression(joined) ? { expression: joined } : { names: [...names] };
}
