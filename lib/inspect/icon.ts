import { GuestError } from '../core/errors.js';
import { readNode, type Tree } from '../filesystem/walk.js';
import type { GuestOs } from './types.js';

/** Where distributions keep their logo as a PNG; the first one that is there. */
const PATHS: Readonly<Record<string, readonly string[]>> = {
  fedora: ['/usr/share/icons/hicolor/96x96/apps/fedora-logo-icon.png'],
  rhel: ['/usr/share/pixmaps/redhat/shadowman-transparent.png', '/usr/share/icons/hicolor/96x96/apps/system-logo-icon.png'],
  debian: ['/usr/share/pixmaps/debian-logo.png'],
  ubuntu: ['/usr/share/icons/gnome/24x24/places/ubuntu-logo.png', '/usr/share/help/C/ubuntu-help/figures/ubuntu-logo.png'],
  mageia: ['/usr/share/icons/mageia.png'],
  opensuse: ['/usr/share/icons/hicolor/24x24/apps/distributor.png'],
  voidlinux: ['/usr/share/void-artwork/void-logo.png'],
  altlinux: ['/usr/share/icons/hicolor/48x48/apps/altlinux.png'],
  gentoo: ['/usr/share/pixmaps/gentoo.png'],
  openmandriva: ['/usr/share/icons/mandriva.png'],
};
const LIKE: Readonly<Record<string, string>> = {
  centos: 'rhel',
  scientificlinux: 'rhel',
  'redhat-based': 'rhel',
  oraclelinux: 'rhel',
  rocky: 'rhel',
  circle: 'rhel',
  almalinux: 'rhel',
  sles: 'opensuse',
  'suse-based': 'opensuse',
};
const MAX_BYTES = 1 << 20;

/** The guest's logo: PNG bytes of at most 1 MiB. */
export function guestIcon(os: GuestOs, tree: Tree): Uint8Array | undefined {
  const distro = os.distro ?? '';
  for (const path of [...(PATHS[distro] ?? PATHS[LIKE[distro] ?? ''] ?? []), '/etc/favicon.png']) {
    try {
      const place = tree.find(path);
      if (place === undefined || place.node.kind !== 'file' || place.node.stat().size > MAX_BYTES) continue;
      const bytes = readNode(place.node, path, MAX_BYTES);
      if (Buffer.from(bytes.subarray(0, 4)).equals(Buffer.from([0x89, 0x50, 0x4e, 0x47]))) return bytes;
    } catch (e) {
      // A damaged icon is no reason to say nothing of the guest.
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
    }
  }
  return undefined;
}
