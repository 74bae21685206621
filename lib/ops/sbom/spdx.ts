import { createHash } from 'node:crypto';
import type { License } from './license.js';
import type { Bill, BillOptions, BillPackage } from './model.js';
import { clean, contentUuid, references, timestamp, webAddress } from './shared.js';

type Json = Record<string, unknown>;
const NONE = 'NOASSERTION';

/** An SPDX 2.3 document (ISO/IEC 5962): it describes the guest, which contains operating systems, which contain packages. */
export function spdx(bill: Bill, options: BillOptions): Json {
  const extracted = new Map<string, string>();
  const packages: Json[] = [{ ...bare('SPDXRef-Guest', bill.name), primaryPackagePurpose: 'CONTAINER' }];
  const relationships: Json[] = [relation('SPDXRef-DOCUMENT', 'DESCRIBES', 'SPDXRef-Guest')];
  for (const [i, s] of bill.systems.entries()) {
    const id = bill.systems.length === 1 ? 'SPDXRef-OperatingSystem' : `SPDXRef-OperatingSystem-${i + 1}`;
    packages.push({
      ...bare(id, s.id, s.version),
      summary: clean(s.prettyName),
      primaryPackagePurpose: 'OPERATING_SYSTEM',
    });
    relationships.push(relation('SPDXRef-Guest', 'CONTAINS', id));
    for (const [n, ref] of references(s.packages).entries()) {
      const p = s.packages[n]!;
      const own = packageId(p, `${id} ${ref}`);
      packages.push(spdxPackage(p, own, extracted));
      relationships.push(relation(id, 'CONTAINS', own));
    }
  }
  const body = {
    packages,
    relationships,
    ...(extracted.size === 0
      ? {}
      : {
          hasExtractedLicensingInfos: [...extracted].map(([licenseId, name]) => ({
            licenseId,
            name,
            extractedText: `The package database calls this license "${name}".`,
          })),
        }),
  };
  const name = clean(bill.name);
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name,
    documentNamespace: options.serial ?? `https://spdx.org/spdxdocs/guestwright/${encodeURIComponent(name)}-${contentUuid(body)}`,
    creationInfo: { created: timestamp(options.created), creators: [`Tool: guestwright-${options.toolVersion}`] },
    ...body,
  };
}

const relation = (from: string, type: string, to: string): Json => ({
  spdxElementId: from,
  relationshipType: type,
  relatedSpdxElement: to,
});

const bare = (id: string, name: string, version = ''): Json => ({
  SPDXID: id,
  name: clean(name),
  ...(version === '' ? {} : { versionInfo: clean(version) }),
  downloadLocation: NONE,
  filesAnalyzed: false,
  licenseConcluded: NONE,
  licenseDeclared: NONE,
  copyrightText: NONE,
});

/** Letters, digits, "." and "-" are all that an identifier may have; the hash keeps those apart that this makes equal. */
const packageId = (p: BillPackage, unique: string): string =>
  `SPDXRef-Package-${p.package.format}-${p.package.name.replace(/[^A-Za-z0-9.-]+/g, '-').slice(0, 100)}-${createHash('sha256').update(unique).digest('hex').slice(0, 16)}`;

function spdxPackage(b: BillPackage, id: string, extracted: Map<string, string>): Json {
  const p = b.package;
  const url = webAddress(p.url);
  return {
    ...bare(id, p.name, b.version),
    supplier: supplier(p.publisher),
    licenseDeclared: b.license === undefined ? NONE : declared(b.license, extracted),
    ...(url === undefined ? {} : { homepage: url }),
    ...(p.summary === undefined ? {} : { summary: clean(p.summary) }),
    ...(p.description === undefined ? {} : { description: clean(p.description) }),
    ...(p.sourcePackage === undefined
      ? {}
      : {
          sourceInfo: clean(
            `built from source package ${p.sourcePackage}${p.sourceVersion === undefined ? '' : ` ${p.sourceVersion}`}`,
          ),
        }),
    externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: b.purl }],
  };
}

/** "Name <mail>" is a person or a team; a name alone is a vendor. */
function supplier(publisher: string | undefined): string {
  const text = clean(publisher ?? '')
    .replace(/\s+/g, ' ')
    .trim();
  if (text === '') return NONE;
  const m = /^(.*?)\s*<([^<>\s]+@[^<>\s]+)>$/.exec(text);
  return m === null ? `Organization: ${text}` : `Person: ${m[1] === '' ? m[2] : m[1]} (${m[2]})`;
}

function declared(l: License, extracted: Map<string, string>): string {
  if ('expression' in l) return l.expression;
  return l.names
    .map((n) => {
      const name = clean(n);
      const id = `LicenseRef-${name.replace(/[^A-Za-z0-9.-]+/g, '-').slice(0, 60)}-${createHash('sha256').update(name).digest('hex').slice(0, 8)}`;
      extracted.set(id, name);
      return id;
    })
    .join(' AND ');
}
