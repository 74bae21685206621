import type { Package } from '../../artifact/package.js';
import type { Tree } from '../../filesystem/walk.js';
import { packageInventory } from '../../inspect/applications.js';
import type { GuestOs } from '../../inspect/types.js';
import { debianCopyright, type License, licenseOf } from './license.js';
import type { BillPackage, BillSystem } from './model.js';
import { fullVersion, purlOf } from './purl.js';

/** libguestfs' names of distributions, where os-release has another. */
const RELEASE_ID: Readonly<Record<string, string>> = {
  archlinux: 'arch',
  alpinelinux: 'alpine',
  voidlinux: 'void',
  oraclelinux: 'ol',
};
const MAX_COPYRIGHT = 1 << 20;

/** Everything about one operating system that a bill of materials holds.  Problems are added to `problems`. */
export function billSystem(os: GuestOs, tree: Tree, problems: string[]): BillSystem {
  const release = osRelease(tree);
  const id = release.get('ID') ?? RELEASE_ID[os.distro ?? ''] ?? os.distro ?? os.type;
  const version =
    release.get('VERSION_ID') ??
    (os.major === 0 && os.minor === 0 ? '' : os.minor === 0 ? `${os.major}` : `${os.major}.${os.minor}`);
  const inventory = packageInventory(os, tree, { extras: true });
  problems.push(...inventory.problems);
  const packages: BillPackage[] = [];
  for (const p of inventory.packages) {
    // rpm keeps signing keys among the packages; they are no software.
    if (p.format === 'rpm' && p.name === 'gpg-pubkey') continue;
    packages.push({ package: p, version: fullVersion(p), purl: purlOf(p, { id, version }), license: packageLicense(p, tree) });
  }
  // By URL: the order of a database says nothing and changes with every installation.
  packages.sort((a, b) => (a.purl < b.purl ? -1 : a.purl > b.purl ? 1 : 0));
  return {
    id,
    version,
    prettyName: release.get('PRETTY_NAME') ?? os.productName ?? `${id} ${version}`.trim(),
    arch: os.arch,
    hostname: os.hostname,
    packages,
  };
}

function packageLicense(p: Package, tree: Tree): License | undefined {
  if (p.license !== undefined) return licenseOf(p.license);
  if (p.format !== 'deb' || !/^[a-z0-9][a-z0-9.+-]*$/.test(p.name)) return undefined;
  const path = `/usr/share/doc/${p.name}/copyright`;
  const place = tree.kind(path) === 'file' ? tree.find(path) : undefined;
  if (place === undefined || place.node.stat().size > MAX_COPYRIGHT) return undefined;
  const text = tree.text(path, MAX_COPYRIGHT);
  return text === undefined ? undefined : debianCopyright(text);
}

function osRelease(tree: Tree): ReadonlyMap<string, string> {
  const text = tree.text('/etc/os-release', 1 << 16) ?? tree.text('/usr/lib/os-release', 1 << 16) ?? '';
  const out = new Map<string, string>();
  for (const line of text.split('\n')) {
    const m = /^([A-Z_]+)=(["']?)(.*?)\2\s*$/.exec(line);
    if (m !== null && m[3] !== '') out.set(m[1]!, m[3]!.replace(/\\(["'\\$`])/g, '$1'));
  }
  return out;
}
