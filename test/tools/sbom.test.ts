import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Ajv, type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';
import { PackageURL } from 'packageurl-js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Package } from '../../lib/artifact/package.js';
import { debianCopyright, licenseOf } from '../../lib/ops/sbom/license.js';
import { purlOf } from '../../lib/ops/sbom/purl.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const require = createRequire(import.meta.url);
let validate: ValidateFunction;

beforeAll(() => {
  const folder = join(dirname(require.resolve('@cyclonedx/cyclonedx-library/package.json')), 'res/schema');
  const schema = (name: string) => JSON.parse(readFileSync(join(folder, `${name}.SNAPSHOT.schema.json`), 'utf8'));
  const ajv = new Ajv({ strict: false, validateFormats: true });
  (addFormats as unknown as (a: Ajv) => void)(ajv);
  // ajv-formats leaves these two out; addresses are checked by the tests below.
  ajv.addFormat('iri-reference', true).addFormat('idn-email', true);
  for (const name of ['spdx', 'jsf-0.82'])
    ajv.addSchema(schema(name), `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`);
  validate = ajv.compile(schema('bom-1.6'));
});

/**
 * SPDX 2.3, clauses 6 to 11, as far as a document of packages uses them: what must be there, and what it may be.  Nothing
 * that is not named here is allowed.  No package of a registry brings the published schema (schemas/spdx-schema-2-3.json of
 * spdx-spec); this one is narrower in every point, so what passes here passes there: each property is one of its
 * properties, each choice one of its choices, and all that it requires is required.
 */
const spdxId = { type: 'string', pattern: '^SPDXRef-[A-Za-z0-9.-]+$' };
const text = { type: 'string', minLength: 1 };
const uri = { type: 'string', format: 'uri' };
const strictObject = (required: readonly string[], properties: Record<string, unknown>) => ({
  type: 'object',
  required,
  properties,
  additionalProperties: false,
});
const SPDX = strictObject(
  ['spdxVersion', 'dataLicense', 'SPDXID', 'name', 'documentNamespace', 'creationInfo', 'packages', 'relationships'],
  {
    spdxVersion: { const: 'SPDX-2.3' },
    dataLicense: { const: 'CC0-1.0' },
    SPDXID: { const: 'SPDXRef-DOCUMENT' },
    name: text,
    documentNamespace: { ...uri, pattern: '^[^#]+$' },
    creationInfo: strictObject(['created', 'creators'], {
      created: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$' },
      creators: { type: 'array', minItems: 1, items: { type: 'string', pattern: '^(Person|Organization|Tool): .+' } },
    }),
    packages: {
      type: 'array',
      minItems: 1,
      items: strictObject(
        ['SPDXID', 'name', 'downloadLocation', 'filesAnalyzed', 'licenseConcluded', 'licenseDeclared', 'copyrightText'],
        {
          SPDXID: spdxId,
          name: text,
          versionInfo: text,
          downloadLocation: { const: 'NOASSERTION' },
          filesAnalyzed: { const: false },
          licenseConcluded: text,
          licenseDeclared: text,
          copyrightText: text,
          primaryPackagePurpose: { enum: ['CONTAINER', 'OPERATING_SYSTEM'] },
          supplier: { type: 'string', pattern: '^(NOASSERTION|(Person|Organization): .+)$' },
          homepage: uri,
          summary: text,
          description: { type: 'string' },
          sourceInfo: text,
          externalRefs: {
            type: 'array',
            items: strictObject(['referenceCategory', 'referenceType', 'referenceLocator'], {
              referenceCategory: { const: 'PACKAGE-MANAGER' },
              referenceType: { const: 'purl' },
              referenceLocator: { type: 'string', pattern: '^pkg:[^ ]+$' },
            }),
          },
        },
      ),
    },
    relationships: {
      type: 'array',
      items: strictObject(['spdxElementId', 'relationshipType', 'relatedSpdxElement'], {
        spdxElementId: spdxId,
        relationshipType: { enum: ['DESCRIBES', 'CONTAINS'] },
        relatedSpdxElement: spdxId,
      }),
    },
    hasExtractedLicensingInfos: {
      type: 'array',
      items: strictObject(['licenseId', 'extractedText', 'name'], {
        licenseId: { type: 'string', pattern: '^LicenseRef-[A-Za-z0-9.-]+$' },
        extractedText: text,
        name: text,
      }),
    },
  },
);

// biome-ignore lint/suspicious/noExplicitAny: the shape is what is tested
type Document = any;
const sbom = (image: string, ...options: string[]): Document => {
  const r = tool('guestwright', ['sbom', ...options, image], { env: { SOURCE_DATE_EPOCH: '1700000000' } });
  expect(r.stderr).toBe('');
  expect(r.status).toBe(0);
  return JSON.parse(r.stdout);
};
/** The reference implementation finds the same parts in it, and writes it alike (it leaves ":" and "+" apart from the rest). */
function checkPurl(purl: string): void {
  const p = PackageURL.fromString(purl);
  const loose = (s: string) => s.replaceAll('%3A', ':').replaceAll('%2B', '+');
  expect(loose(p.toString())).toBe(loose(purl));
}
/** Signing keys that rpm lists as packages, and a bill of materials does not. */
const keys = (name: string) => (name.includes('phony-fedora') ? 2 : 0);
const guests = sharedEntries().filter((e) => /^guest\/(phony-(fedora|archlinux|debian|ubuntu)|deb12)\.img/.test(e.name));

describe('guestwright sbom', () => {
  for (const e of guests) {
    const want = (e.expected.upstream ?? e.expected.virt_inspector).operatingsystems[0];
    itIf(hasSharedData(), noSharedData)(`${e.name}: CycloneDX that its schema accepts, with every package`, () => {
      const d = sbom(sharedFile(e.name));
      expect([validate(d), validate.errors]).toEqual([true, null]);
      const packages = d.components.filter((c: Document) => c.purl !== undefined);
      expect(packages.length).toBe(want.applications_count - keys(e.name));
      for (const c of packages) checkPurl(c.purl);
      const refs = [d.metadata.component, ...d.components].map((c: Document) => c['bom-ref']);
      expect(new Set(refs).size).toBe(refs.length);
      for (const dep of d.dependencies) expect(refs).toEqual(expect.arrayContaining([dep.ref, ...(dep.dependsOn ?? [])]));
      expect(d.metadata.timestamp).toBe('2023-11-14T22:13:20Z');
      expect(d.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-/);
    });
    itIf(hasSharedData(), noSharedData)(`${e.name}: SPDX as the specification wants it, with every package`, () => {
      const d = sbom(sharedFile(e.name), '--format', 'spdx');
      const ajv = new Ajv({ strict: false });
      (addFormats as unknown as (a: Ajv) => void)(ajv);
      const check = ajv.compile(SPDX);
      expect([check(d), check.errors]).toEqual([true, null]);
      const ids = d.packages.map((p: Document) => p.SPDXID);
      expect(new Set(ids).size).toBe(ids.length);
      // Everything is described or contained by something that is there, exactly once.
      expect(d.relationships.map((r: Document) => r.relatedSpdxElement)).toEqual(ids);
      for (const r of d.relationships) expect(['SPDXRef-DOCUMENT', ...ids]).toContain(r.spdxElementId);
      expect(d.packages.filter((p: Document) => p.externalRefs).length).toBe(want.applications_count - keys(e.name));
      const defined = new Set((d.hasExtractedLicensingInfos ?? []).map((l: Document) => l.licenseId));
      const used = new Set(d.packages.flatMap((p: Document) => p.licenseDeclared.match(/LicenseRef-[A-Za-z0-9.-]+/g) ?? []));
      expect(used).toEqual(defined);
    });
  }
  itIf(hasSharedData(), noSharedData)(
    'the same guest gives the same bytes, whatever the clock says; --serial and --name are taken',
    () => {
      const image = sharedFile('guest/deb12.img.zst');
      expect(sbom(image)).toEqual(sbom(image));
      const now = JSON.parse(tool('guestwright', ['sbom', image]).stdout);
      expect(now.metadata.timestamp).not.toBe('2023-11-14T22:13:20Z');
      expect(now.serialNumber).toBe(sbom(image).serialNumber);
      const serial = 'urn:uuid:00000000-1111-4222-8333-444444444444';
      const own = sbom(image, '--serial', serial, '--name', 'web');
      expect([own.serialNumber, own.metadata.component.name]).toEqual([serial, 'web']);
      expect(tool('guestwright', ['sbom', '--serial', 'x', image])).toMatchObject({ status: 1, stdout: '' });
    },
  );
  itIf(hasSharedData(), noSharedData)('-o writes the file whole or not at all', () => {
    const dir = temporaryFolder();
    const file = join(dir, 'out.json');
    const r = tool('guestwright', ['sbom', '-o', file, '-a', sharedFile('guest/phony-archlinux.img.zst')]);
    expect(r).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(JSON.parse(readFileSync(file, 'utf8')).components[1].purl).toBe(
      'pkg:alpm/arch/test-package@1:0.1-1?arch=x86_64&distro=arch',
    );
    const before = readFileSync(file);
    expect(tool('guestwright', ['sbom', '-o', file, '-a', '/etc/hostname']).status).toBe(1);
    expect(readFileSync(file)).toEqual(before);
    const nowhere = join(dir, 'missing/out.json');
    expect(tool('guestwright', ['sbom', '-o', nowhere, '-a', sharedFile('guest/phony-archlinux.img.zst')])).toMatchObject({
      status: 1,
      stderr: `guestwright sbom: ${nowhere}: no such file or directory\n`,
    });
    expect(existsSync(nowhere)).toBe(false);
    expect(readdirSync(dir)).toEqual(['out.json']);
  });
  itNeeds('mke2fs')('an Alpine guest made here: licences, hostile fields and package URLs', () => {
    const dir = temporaryFolder();
    const files: Record<string, string> = {
      'etc/os-release': 'ID=alpine\nVERSION_ID=3.20.1\nPRETTY_NAME="Alpine Linux v3.20"\n',
      'etc/fstab': '/dev/sda / ext4 defaults 0 0\n',
      'etc/hostname': 'a\n',
      'lib/apk/db/installed': `P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nU:https://musl.libc.org/\nT:the C library\nm:A B <a@b.example>\no:musl\n
P:libstdc++\nV:13.2.1_git20240309-r0\nA:x86_64\nL:GPL-2.0-or-later and LGPL-2.1-or-later\n
P:evil\x1b[31m/../x?y#z\nV:1@2-r0\nA:x86_64\nL:my own words\nU:javascript:alert(1)\nT:\xff\n
P:musl\nV:1.2.5-r0\nA:x86_64\n\n`,
      'bin/x': '',
    };
    for (const [path, data] of Object.entries(files)) {
      mkdirSync(join(dir, 'root', dirname(path)), { recursive: true });
      writeFileSync(join(dir, 'root', path), data);
    }
    mkdirSync(join(dir, 'root/usr'));
    mkdirSync(join(dir, 'root/var'));
    run('mke2fs', ['-q', '-t', 'ext4', '-d', join(dir, 'root'), join(dir, 'disk.img'), '20M']);
    const d = sbom(join(dir, 'disk.img'));
    expect([validate(d), validate.errors]).toEqual([true, null]);
    const [os, ...packages] = d.components;
    expect(os).toMatchObject({ type: 'operating-system', name: 'alpine', version: '3.20.1', description: 'Alpine Linux v3.20' });
    const by = (name: string) => packages.filter((c: Document) => c.name.startsWith(name));
    expect(by('musl').length).toBe(2);
    expect(by('musl')[0]).toMatchObject({
      purl: 'pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1',
      licenses: [{ expression: 'MIT' }],
      externalReferences: [{ type: 'website', url: 'https://musl.libc.org/' }],
    });
    expect(by('libstdc++')[0]).toMatchObject({
      purl: 'pkg:apk/alpine/libstdc%2B%2B@13.2.1_git20240309-r0?arch=x86_64&distro=alpine-3.20.1',
      licenses: [{ expression: 'GPL-2.0-or-later AND LGPL-2.1-or-later' }],
    });
    expect(by('evil')[0].licenses).toEqual([{ license: { name: 'my own words', acknowledgement: 'declared' } }]);
    expect(by('evil')[0].externalReferences).toBeUndefined();
    expect(by('evil')[0].name).not.toMatch(/[\x00-\x1f]/);
    checkPurl(by('evil')[0].purl);
    const s = sbom(join(dir, 'disk.img'), '--format=spdx');
    expect(s.packages.find((p: Document) => p.name === 'musl')).toMatchObject({
      supplier: 'Person: A B (a@b.example)',
      licenseDeclared: 'MIT',
    });
    expect(s.hasExtractedLicensingInfos).toMatchObject([{ name: 'my own words' }]);
  });
});

describe('package URLs', () => {
  const base = { epoch: 0, version: '1.0', release: '2', arch: 'x86_64' };
  const system = { id: 'x', version: '9' };
  it.each<[Package, { id: string; version: string }, string]>([
    [
      { ...base, format: 'deb', name: 'bsdutils', epoch: 1, arch: 'amd64' },
      { id: 'debian', version: '12' },
      'pkg:deb/debian/bsdutils@1:1.0-2?arch=amd64&distro=debian-12',
    ],
    [
      { ...base, format: 'deb', name: 'g++', version: '1~rc1+b2' },
      system,
      'pkg:deb/x/g%2B%2B@1~rc1%2Bb2-2?arch=x86_64&distro=x-9',
    ],
    [
      { ...base, format: 'rpm', name: 'bind-libs', epoch: 32 },
      { id: 'rhel', version: '8.4' },
      'pkg:rpm/redhat/bind-libs@1.0-2?arch=x86_64&distro=rhel-8.4&epoch=32',
    ],
    [
      { ...base, format: 'pacman', name: 'zlib', epoch: 1 },
      { id: 'arch', version: '' },
      'pkg:alpm/arch/zlib@1:1.0-2?arch=x86_64&distro=arch',
    ],
    [
      { ...base, format: 'ebuild', name: 'app-shells/bash', release: 'r2', slot: '0/1' },
      { id: 'gentoo', version: '' },
      'pkg:ebuild/app-shells/bash@1.0-r2?arch=x86_64&distro=gentoo&slot=0%2F1',
    ],
    [
      { ...base, format: 'xbps', name: 'x' },
      { id: 'void', version: '' },
      'pkg:generic/void/x@1.0_2?arch=x86_64&distro=void&package_type=xbps',
    ],
    [
      { ...base, format: 'snap', name: 'core', release: '', arch: '' },
      system,
      'pkg:generic/core@1.0?distro=x-9&package_type=snap',
    ],
  ])('%o', (p, s, want) => {
    expect(purlOf(p, s)).toBe(want);
    checkPurl(want);
  });
});

describe('licences', () => {
  it.each([
    ['MIT', { expression: 'MIT' }],
    ['(GPL-2.0-or-later or  MIT) and BSD-3-Clause', { expression: '(GPL-2.0-or-later OR MIT) AND BSD-3-Clause' }],
    ['GPL-2.0-only WITH Classpath-exception-2.0', { expression: 'GPL-2.0-only WITH Classpath-exception-2.0' }],
    ['LicenseRef-Fedora-Public-Domain', { expression: 'LicenseRef-Fedora-Public-Domain' }],
    ['GPLv2+', { names: ['GPLv2+'] }],
    ['custom', undefined],
    ['', undefined],
    ['('.repeat(100000), { names: ['('.repeat(1000)] }],
  ])('%.60s', (text, want) => expect(licenseOf(text)).toEqual(want));
  it('Debian’s copyright files give all their licences, in SPDX’s words where it has them', () => {
    const file = (...names: string[]) =>
      `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n${names.map((n) => `Files: *\nLicense: ${n}\n text\n`).join('\n')}`;
    expect(debianCopyright(file('GPL-2+', 'Expat', 'GPL-2+'))).toEqual({ expression: 'GPL-2.0-or-later AND MIT' });
    expect(debianCopyright(file('GPL-1+ or Artistic', 'LGPL-2.1'))).toEqual({
      expression: '(GPL-1.0-or-later OR Artistic-1.0-Perl) AND LGPL-2.1-only',
    });
    expect(debianCopyright(file('GPL-2+', 'public-domain'))).toEqual({ names: ['GPL-2+', 'public-domain'] });
    expect(debianCopyright('This is free software.\nLicense: GPL\n')).toBeUndefined();
  });
});
