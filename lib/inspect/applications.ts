import { parseDpkgStatus } from '../artifact/dpkg.js';
import type { Package } from '../artifact/package.js';
import type { Tree } from '../filesystem/walk.js';
import type { GuestOs } from './types.js';

/** Everything that the guest's package manager says is installed, in the database's order sorted by name. */
export function applications(os: GuestOs, tree: Tree): readonly Package[] {
  const found = os.packageFormat === 'deb' ? dpkg(tree) : [];
  return [...found].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function dpkg(tree: Tree): readonly Package[] {
  const status = tree.text('/var/lib/dpkg/status', 256 << 20);
  const out = status === undefined ? [] : parseDpkgStatus(status);
  for (const name of tree.names('/var/lib/dpkg/status.d'))
    if (!name.endsWith('.md5sums'))
      out.push(...parseDpkgStatus(tree.text(`/var/lib/dpkg/status.d/${name}`) ?? '', { anyState: true }));
  return out;
}
