import type { License } from './license.js';
import type { Bill, BillOptions, BillPackage, BillSystem } from './model.js';
import { clean, contentUuid, references, timestamp, webAddress } from './shared.js';

type Json = Record<string, unknown>;

/** A CycloneDX 1.6 document (ECMA-424): the guest contains its operating systems, each depends on its packages. */
export function cycloneDx(bill: Bill, options: BillOptions): Json {
  const root = 'guest';
  const systems = bill.systems.map((s, i) => ({ system: s, ref: bill.systems.length === 1 ? 'os' : `os-${i + 1}` }));
  const components: Json[] = [];
  const dependencies: Json[] = [{ ref: root, dependsOn: systems.map((s) => s.ref) }];
  for (const { system, ref } of systems) {
    const prefix = systems.length === 1 ? '' : `${ref}/`;
    const refs = references(system.packages).map((r) => prefix + r);
    components.push(operatingSystem(system, ref), ...system.packages.map((p, i) => component(p, refs[i]!)));
    dependencies.push({ ref, dependsOn: refs }, ...refs.map((r) => ({ ref: r })));
  }
  const body = {
    metadata: {
      tools: { components: [{ type: 'application', name: 'guestwright', version: options.toolVersion }] },
      // "isolates software inside … from software outside … through virtualization technology"
      component: { type: 'container', 'bom-ref': root, name: clean(bill.name) },
    },
    components,
    dependencies,
  };
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: options.serial ?? `urn:uuid:${contentUuid(body)}`,
    version: 1,
    ...body,
    metadata: { timestamp: timestamp(options.created), ...body.metadata },
  };
}

function operatingSystem(s: BillSystem, ref: string): Json {
  return {
    type: 'operating-system',
    'bom-ref': ref,
    name: clean(s.id),
    ...(s.version === '' ? {} : { version: clean(s.version) }),
    description: clean(s.prettyName),
    ...properties({ arch: s.arch, hostname: s.hostname }),
  };
}

function component({ package: p, version, purl, license }: BillPackage, ref: string): Json {
  const url = webAddress(p.url);
  return {
    type: p.format === 'flatpak' || p.format === 'snap' ? 'application' : 'library',
    'bom-ref': ref,
    ...(p.publisher === undefined ? {} : { publisher: clean(p.publisher) }),
    name: clean(p.name),
    version: clean(version),
    ...(p.summary === undefined ? {} : { description: clean(p.summary) }),
    ...(license === undefined ? {} : { licenses: licenses(license) }),
    purl,
    ...(url === undefined ? {} : { externalReferences: [{ type: 'website', url }] }),
    ...properties({
      packageFormat: p.format,
      sourcePackage: p.sourcePackage,
      sourceVersion: p.sourceVersion,
      repository: p.repository,
      installedSize: p.installedSize?.toString(),
    }),
  };
}

const licenses = (l: License): Json[] =>
  'expression' in l
    ? [{ expression: l.expression, acknowledgement: 'declared' }]
    : l.names.map((name) => ({ license: { name: clean(name), acknowledgement: 'declared' } }));

const properties = (values: Readonly<Record<string, string | undefined>>): Json => {
  const list = Object.entries(values).flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [{ name: `guestwright:${name}`, value: clean(value) }],
  );
  return list.length === 0 ? {} : { properties: list };
};
