import type { Tree } from '../filesystem/walk.js';
import type { OsType } from './types.js';

export interface Role {
  readonly role: 'root' | 'usr' | 'other';
  readonly type?: OsType;
  readonly coreos?: boolean;
}

/** Is it a directory, also when it is a link to one inside this filesystem (merged /usr)? */
const dirs = (t: Tree, ...paths: readonly string[]) => paths.every((p) => t.isDirectory(p));
const files = (t: Tree, ...paths: readonly string[]) => paths.every((p) => t.isFile(p));
/** /bin is a directory, or a link whose target lies on a /usr of its own. */
const hasBin = (t: Tree) => t.isDirectory('/bin') || linkTo(t, '/bin', /^\/?usr\/bin$/);
const linkTo = (t: Tree, path: string, pattern: RegExp) => {
  const node = t.find(path, { follow: false })?.node;
  return node?.kind === 'symlink' && pattern.test(node.target());
};

/**
 * The rules by which a filesystem is known, in order: the first that holds names its role.  Most specific systems come
 * before Linux, because all Unix roots have /etc and /bin.
 */
const RULES: readonly (Role & { readonly test: (t: Tree) => boolean })[] = [
  {
    role: 'other',
    test: (t) => ['/grub/menu.lst', '/grub/grub.conf', '/grub2/grub.cfg'].some((p) => t.isFile(p)) && !t.isDirectory('/etc'),
  },
  { role: 'root', type: 'freebsd', test: (t) => dirs(t, '/etc', '/bin') && files(t, '/etc/freebsd-update.conf', '/etc/fstab') },
  { role: 'root', type: 'netbsd', test: (t) => dirs(t, '/etc', '/bin') && files(t, '/netbsd', '/etc/fstab', '/etc/release') },
  { role: 'root', type: 'openbsd', test: (t) => dirs(t, '/etc', '/bin') && files(t, '/bsd', '/etc/fstab', '/etc/motd') },
  { role: 'root', type: 'hurd', test: (t) => files(t, '/hurd/console', '/hurd/hello', '/hurd/null') },
  { role: 'root', type: 'minix', test: (t) => dirs(t, '/etc', '/bin') && files(t, '/service/vm', '/etc/fstab', '/etc/version') },
  {
    role: 'root',
    type: 'linux',
    test: (t) =>
      dirs(t, '/etc') && hasBin(t) && (t.isFile('/etc/fstab') || t.isFile('/etc/hosts') || t.exists('/etc/os-release')),
  },
  {
    role: 'root',
    type: 'linux',
    coreos: true,
    test: (t) => dirs(t, '/etc', '/root', '/home', '/usr') && t.isFile('/etc/coreos/update.conf'),
  },
  // NixOS and Guix have no /bin/ls, but a store and a system profile.
  { role: 'root', type: 'linux', test: (t) => dirs(t, '/nix/store', '/etc') || dirs(t, '/gnu/store', '/var/guix') },
  { role: 'other', test: (t) => dirs(t, '/etc', '/bin', '/share') && !t.isDirectory('/local') && !t.isFile('/etc/fstab') },
  { role: 'usr', test: (t) => dirs(t, '/bin', '/local', '/share', '/src') && !t.isFile('/etc/fstab') },
  { role: 'usr', coreos: true, test: (t) => dirs(t, '/bin', '/share', '/local', '/share/coreos') },
  { role: 'usr', test: (t) => dirs(t, '/bin', '/lib', '/share') && t.isFile('/lib/os-release') },
  { role: 'other', test: (t) => dirs(t, '/log', '/spool') && (dirs(t, '/run') || linkTo(t, '/run', /run$/)) },
  { role: 'root', type: 'dos', test: (t) => t.isDirectory('/FDOS') && t.isFile('/FDOS/FREEDOS.BSS') },
  { role: 'root', type: 'dos', test: (t) => t.isDirectory('/DOS') && t.isFile('/DOS/COMMAND.COM') },
];

export function classify(tree: Tree): Role {
  const rule = RULES.find((r) => r.test(tree));
  if (rule === undefined) return { role: 'other' };
  const { test: _, ...role } = rule;
  return role;
}
