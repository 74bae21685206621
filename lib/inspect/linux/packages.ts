import type { Tree } from '../../filesystem/walk.js';
import type { Release } from './release.js';

const RPM =
  'altlinux centos circle fedora kylin mageia mandriva meego neokylin opencloudos tencentos openeuler openmandriva opensuse oraclelinux redhat-based rhel rocky scientificlinux sles suse-based almalinux amzn photon azurelinux mariner nobara ultramarine eurolinux virtuozzo cloudlinux rosa';
const DEB =
  'debian kalilinux linuxmint ubuntu pop elementary zorin neon devuan deepin parrot mx antix proxmox-ve pureos tails trisquel peppermint endless';
const PACMAN = 'archlinux manjaro endeavouros steamos garuda artix cachyos arcolinux';
const FORMATS = new Map<string, string>([
  ...RPM.split(' ').map((d) => [d, 'rpm'] as const),
  ...DEB.split(' ').map((d) => [d, 'deb'] as const),
  ...PACMAN.split(' ').map((d) => [d, 'pacman'] as const),
  ['gentoo', 'ebuild'],
  ['funtoo', 'ebuild'],
  ['pardus', 'pisi'],
  ['alpinelinux', 'apk'],
  ['postmarketos', 'apk'],
  ['chimera', 'apk'],
  ['wolfi', 'apk'],
  ['voidlinux', 'xbps'],
]);
/** Known to have no package database that we could name. */
const NONE: ReadonlySet<string> = new Set(
  'buildroot cirros coreos frugalware pldlinux slackware ttylinux nixos guix clear-linux-os flatcar bottlerocket'.split(' '),
);
const LIKE: Readonly<Record<string, string>> = {
  debian: 'deb',
  ubuntu: 'deb',
  rhel: 'rpm',
  fedora: 'rpm',
  centos: 'rpm',
  suse: 'rpm',
  opensuse: 'rpm',
  mageia: 'rpm',
  arch: 'pacman',
  gentoo: 'ebuild',
  alpine: 'apk',
};

export function packageFormat(r: Release): string | undefined {
  if (r.distro === undefined || NONE.has(r.distro)) return undefined;
  return FORMATS.get(r.distro) ?? r.like?.map((l) => LIKE[l]).find((f) => f !== undefined);
}

export function packageManagement(r: Release, tree: Tree): string | undefined {
  const d = r.distro;
  switch (d) {
    case undefined:
      return undefined;
    case 'meego':
      return 'yum';
    case 'fedora':
      return r.major >= 22 && tree.exists('/usr/bin/dnf') ? 'dnf' : r.major >= 1 ? 'yum' : undefined;
    case 'centos':
    case 'circle':
    case 'kylin':
    case 'oraclelinux':
    case 'redhat-based':
    case 'rhel':
    case 'rocky':
    case 'scientificlinux':
      return r.major >= 8 ? 'dnf' : r.major >= 5 ? 'yum' : r.major >= 2 ? 'up2date' : undefined;
    case 'altlinux':
      return 'apt';
    case 'pardus':
      return 'pisi';
    case 'mageia':
    case 'mandriva':
    case 'rosa':
      return 'urpmi';
    case 'opensuse':
    case 'sles':
    case 'suse-based':
      return 'zypper';
    case 'photon':
    case 'azurelinux':
    case 'mariner':
      return 'tdnf';
    case 'amzn':
      return r.major >= 2022 ? 'dnf' : 'yum';
  }
  switch (packageFormat(r)) {
    case 'deb':
      return 'apt';
    case 'pacman':
      return 'pacman';
    case 'ebuild':
      return 'portage';
    case 'apk':
      return 'apk';
    case 'xbps':
      return 'xbps';
    case 'rpm':
      return tree.exists('/usr/bin/dnf') || tree.exists('/usr/bin/dnf5')
        ? 'dnf'
        : tree.exists('/usr/bin/zypper')
          ? 'zypper'
          : 'yum';
  }
  return undefined;
}
