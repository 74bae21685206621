import { parseApkInstalled } from '../artifact/apk.js';
import { parseDpkgStatus } from '../artifact/dpkg.js';
import { flatpakPackage } from '../artifact/flatpak.js';
import type { Package } from '../artifact/package.js';
import { parsePacmanDesc } from '../artifact/pacman.js';
import { portagePackage } from '../artifact/portage.js';
import { rpmDatabaseFiles, rpmPackages } from '../artifact/rpm/index.js';
import { slackwarePackage } from '../artifact/slackware.js';
import { parseSnapState, parseSnapYaml } from '../artifact/snap.js';
import { parseXbpsDatabase } from '../artifact/xbps.js';
import { explain, GuestError } from '../core/errors.js';
import { debug } from '../core/log.js';
import type { Tree } from '../filesystem/walk.js';
import type { GuestOs } from './types.js';

/** What the guest's package databases say, and what could not be read of them. */
export interface Inventory {
  readonly packages: readonly Package[];
  readonly problems: readonly string[];
}

type Reader = (tree: Tree, problems: string[]) => Package[];

/** Everything that the guest's package manager says is installed, sorted by name. */
export function applications(os: GuestOs, tree: Tree): readonly Package[] {
  const { packages, problems } = packageInventory(os, tree);
  for (const p of problems) debug('applications', () => p);
  return packages;
}

/**
 * As `applications`, with problems.  The distribution's own package manager is asked; where there is none that we know, or
 * its database is missing, every kind of database is looked for.  `extras` adds flatpaks and snaps.
 */
export function packageInventory(os: GuestOs, tree: Tree, options: { readonly extras?: boolean } = {}): Inventory {
  const problems: string[] = [];
  const read = (reader: Reader): Package[] => {
    try {
      return reader(tree, problems);
    } catch (e) {
      // A damaged database must not hide the rest of the guest.
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      problems.push(explain(e));
      return [];
    }
  };
  const own = os.packageFormat === undefined ? undefined : readers[os.packageFormat];
  let packages = own === undefined ? [] : read(own);
  if (packages.length === 0) packages = Object.values(readers).flatMap((r) => (r === own ? [] : read(r)));
  if (options.extras) packages.push(...read(flatpaks), ...read(snaps));
  return { packages: packages.sort(byName), problems };
}

const byName = (a: Package, b: Package) =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : a.arch < b.arch ? -1 : a.arch > b.arch ? 1 : 0;
const MAX_TEXT = 256 << 20;

const dpkg: Reader = (tree) => {
  const status = tree.text('/var/lib/dpkg/status', MAX_TEXT);
  const out = status === undefined ? [] : parseDpkgStatus(status);
  for (const name of tree.names('/var/lib/dpkg/status.d'))
    if (!name.endsWith('.md5sums'))
      out.push(...parseDpkgStatus(tree.text(`/var/lib/dpkg/status.d/${name}`) ?? '', { anyState: true }));
  return out;
};

/** rpm's folder moved over time; a leftover of the older kind may stand beside the one in use. */
const rpm: Reader = (tree, problems) => {
  for (const dir of ['/usr/lib/sysimage/rpm', '/var/lib/rpm', '/usr/share/rpm', '/usr/lib/rpm'])
    for (const { name, wal } of rpmDatabaseFiles) {
      const path = `${dir}/${name}`;
      if (!tree.isFile(path)) continue;
      const log = wal !== undefined && tree.isFile(`${dir}/${wal}`) ? tree.readFile(`${dir}/${wal}`) : undefined;
      const found: string[] = [];
      const packages = rpmPackages(tree.readFile(path), { problems: found, ...(log === undefined ? {} : { wal: log }) });
      problems.push(...found.map((p) => `${path}: ${p}`));
      if (packages.length > 0) return packages;
    }
  return [];
};

const apk: Reader = (tree) =>
  ['/lib/apk/db/installed', '/usr/lib/apk/db/installed']
    .map((p) => parseApkInstalled(tree.text(p, MAX_TEXT) ?? ''))
    .find((l) => l.length > 0) ?? [];

const pacman: Reader = (tree) =>
  tree
    .names('/var/lib/pacman/local')
    .flatMap((name) => parsePacmanDesc(tree.text(`/var/lib/pacman/local/${name}/desc`) ?? '') ?? []);

const portage: Reader = (tree) =>
  tree.names('/var/db/pkg').flatMap((category) =>
    tree
      .names(`/var/db/pkg/${category}`)
      // "-MERGING-…" is a package that is just being installed.
      .filter((pf) => !pf.startsWith('-'))
      .flatMap((pf) => portagePackage(category, pf, (file) => tree.text(`/var/db/pkg/${category}/${pf}/${file}`, 1 << 20)) ?? []),
  );

const xbps: Reader = (tree) => {
  const name = tree.names('/var/db/xbps').findLast((n) => /^pkgdb-[0-9.]+\.plist$/.test(n));
  return name === undefined ? [] : parseXbpsDatabase(tree.text(`/var/db/xbps/${name}`, MAX_TEXT) ?? '');
};

const opkg: Reader = (tree) =>
  ['/usr/lib/opkg/status', '/var/lib/opkg/status', '/lib/opkg/status'].flatMap((p) =>
    parseDpkgStatus(tree.text(p, MAX_TEXT) ?? '', { format: 'opkg' }),
  );

const slackware: Reader = (tree) => {
  const dir = ['/var/lib/pkgtools/packages', '/var/log/packages'].find((d) => tree.isDirectory(d));
  return dir === undefined
    ? []
    : tree.names(dir).flatMap((name) => slackwarePackage(name, tree.text(`${dir}/${name}`) ?? '') ?? []);
};

const flatpaks: Reader = (tree) =>
  tree.names('/var/lib/flatpak/app').flatMap((id) => {
    const dir = `/var/lib/flatpak/app/${id}/current/active`;
    const metadata = tree.text(`${dir}/metadata`, 1 << 20);
    if (metadata === undefined) return [];
    const appstream = ['metainfo', 'appdata'].flatMap(
      (kind) => tree.text(`${dir}/files/share/${kind}/${id}.${kind}.xml`, 4 << 20) ?? [],
    )[0];
    return flatpakPackage(id, metadata, appstream) ?? [];
  });

const snaps: Reader = (tree) =>
  parseSnapState(tree.text('/var/lib/snapd/state.json', MAX_TEXT) ?? '').map(
    (p) => parseSnapYaml(tree.text(`/snap/${p.name}/current/meta/snap.yaml`, 1 << 20) ?? '', p.name) ?? p,
  );

/** By libguestfs' name of the package format. */
const readers: Readonly<Record<string, Reader>> = { deb: dpkg, rpm, apk, pacman, ebuild: portage, xbps, opkg, slackware };
