import { explain } from '../core/errors.js';
import { debug } from '../core/log.js';
import type { FileSystem } from '../filesystem/driver.js';
import { Tree } from '../filesystem/walk.js';
import type { Storage, StorageNode } from '../storage/index.js';
import { archOf } from './arch.js';
import { classify, type Role } from './classify.js';
import { hostnameOf } from './hostname.js';
import { fstabMounts, isPassable } from './linux/fstab.js';
import { packageFormat, packageManagement } from './linux/packages.js';
import { linuxRelease, type Release, versionNumbers } from './linux/release.js';
import { osinfoId } from './osinfo.js';
import type { GuestOs, Mountpoint, OsType } from './types.js';

export type { GuestOs, Mountpoint } from './types.js';

interface Found extends Role {
  readonly node: StorageNode;
  readonly fs: FileSystem;
}

/** Every operating system on these disks, in the order of their root devices.  Reads a few small files of each filesystem. */
export function inspect(storage: Storage): readonly GuestOs[] {
  const found: Found[] = [];
  for (const node of storage.fileSystems()) {
    if (node.signature?.type === 'swap') continue;
    try {
      const fs = storage.open(node);
      const role = classify(new Tree(fs));
      debug('inspect', () => `${node.device}: ${role.role}${role.type === undefined ? '' : ` of ${role.type}`}`);
      found.push({ node, fs, ...role });
    } catch (e) {
      if (!isPassable(e)) throw e;
      debug('inspect', () => `${node.device}: ${explain(e)}`);
    }
  }
  return found.filter((f) => f.role === 'root').map((f) => describe(f, found, storage));
}

function describe(root: Found, all: readonly Found[], storage: Storage): GuestOs {
  const type = root.type!;
  const own = new Tree(root.fs);
  const fstab = fstabMounts(own, storage, root.node);
  const mountpoints = new Map<string, Mountpoint>([['/', { path: '/', device: root.node.device }]]);
  for (const m of fstab.mountpoints) if (!mountpoints.has(m.path)) mountpoints.set(m.path, m);
  // CoreOS has two /usr partitions; the newer one is in use.
  const usr = root.coreos ? newestUsr(all.filter((f) => f.role === 'usr' && f.coreos)) : undefined;
  if (usr !== undefined) mountpoints.set('/usr', { path: '/usr', device: usr.node.device });
  const mounted = [...mountpoints.values()].sort((a, b) => a.path.length - b.path.length || (a.path < b.path ? -1 : 1));
  const problems = [...fstab.problems];
  const tree = mountTree(storage, mounted, problems);
  const release = releaseOf(type, tree);
  const arch = type === 'dos' ? 'i386' : archOf(tree);
  const hostname = hostnameOf(tree, type);
  const format = type === 'linux' ? packageFormat(release) : undefined;
  const management = type === 'linux' ? packageManagement(release, tree) : undefined;
  const osinfo = osinfoId(type, release.distro, release.major, release.minor);
  return {
    root: root.node.device,
    type,
    major: release.major,
    minor: release.minor,
    ...(release.distro === undefined ? {} : { distro: release.distro }),
    ...(release.productName === undefined ? {} : { productName: release.productName }),
    ...(release.buildId === undefined ? {} : { buildId: release.buildId }),
    ...(arch === undefined ? {} : { arch }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(format === undefined ? {} : { packageFormat: format }),
    ...(management === undefined ? {} : { packageManagement: management }),
    ...(osinfo === undefined ? {} : { osinfo }),
    mountpoints: mounted,
    filesystems: [...new Set([...mounted.map((m) => m.device), ...fstab.swap])].sort(),
    problems,
  };
}

function newestUsr(candidates: readonly Found[]): Found | undefined {
  const version = (f: Found) => {
    const r = linuxRelease(new Tree(f.fs));
    const own = /VERSION_ID=([0-9.]+)/.exec(new Tree(f.fs).text('/lib/os-release') ?? '')?.[1] ?? '';
    return versionNumbers(own).major * 1e6 + versionNumbers(own).minor || r.major;
  };
  return [...candidates].sort((a, b) => version(b) - version(a))[0];
}

function releaseOf(type: OsType, tree: Tree): Release {
  switch (type) {
    case 'linux':
      return linuxRelease(tree);
    case 'freebsd':
    case 'netbsd':
    case 'openbsd': {
      const line = (
        tree.text(type === 'openbsd' ? '/etc/motd' : type === 'netbsd' ? '/etc/release' : '/bin/freebsd-version') ??
        tree.text('/etc/motd') ??
        ''
      ).split('\n');
      const freebsd = line.find((l) => /USERLAND_VERSION="/.test(l));
      const name = freebsd === undefined ? (line[0] ?? '').trim() : `FreeBSD ${/"([^"]*)"/.exec(freebsd)?.[1] ?? ''}`;
      return { distro: type, ...(name === '' ? {} : { productName: name }), ...versionNumbers(name) };
    }
    case 'minix': {
      const name = (tree.text('/etc/version') ?? '').trim();
      return { distro: 'minix', productName: name, ...versionNumbers(name) };
    }
    case 'hurd':
      return linuxRelease(tree);
    default:
      return tree.isDirectory('/FDOS')
        ? { distro: 'freedos', ...versionNumbers(tree.text('/FDOS/FREEDOS.BSS') ?? '') }
        : { distro: 'msdos', productName: 'MS-DOS', major: 6, minor: 22 };
  }
}

/**
 * The guest's tree with everything mounted that can be.  A filesystem that cannot be opened (another driver's, damaged)
 * is left out and named in `problems`.
 */
function mountTree(storage: Storage, mounts: readonly Mountpoint[], problems: string[]): Tree {
  const root = mounts.find((m) => m.path === '/')!;
  const tree = new Tree(storage.open(root.device));
  for (const m of mounts) {
    if (m === root) continue;
    try {
      tree.mount(m.path, storage.open(m.device));
    } catch (e) {
      if (!isPassable(e)) throw e;
      problems.push(`${m.path}: ${explain(e)}`);
    }
  }
  return tree;
}

/** As the guest itself would see its files. */
export const guestTree = (storage: Storage, os: GuestOs): Tree => mountTree(storage, os.mountpoints, []);
