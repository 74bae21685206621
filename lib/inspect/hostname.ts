import type { Tree } from '../filesystem/walk.js';
import { parseShellStyle } from './linux/shell-style.js';
import type { OsType } from './types.js';

/** The first line that is no comment, cut to what a host name can be. */
function firstName(text: string | undefined): string | undefined {
  const line = text
    ?.split('\n')
    .map((l) => l.trim())
    .find((l) => l !== '' && !l.startsWith('#'));
  return line === undefined ? undefined : line.slice(0, 255);
}

export function hostnameOf(tree: Tree, type: OsType): string | undefined {
  switch (type) {
    case 'linux':
    case 'hurd': {
      const name = firstName(tree.text('/etc/HOSTNAME', 65536)) ?? firstName(tree.text('/etc/hostname', 65536));
      if (name !== undefined) return name;
      const network = tree.text('/etc/sysconfig/network', 1 << 20);
      return network === undefined ? undefined : parseShellStyle(network).get('HOSTNAME');
    }
    case 'freebsd':
    case 'netbsd':
      return parseShellStyle(tree.text('/etc/rc.conf', 1 << 20) ?? '').get('hostname');
    case 'openbsd':
      return (
        firstName(tree.text('/etc/myname', 65536)) ?? parseShellStyle(tree.text('/etc/rc.conf', 1 << 20) ?? '').get('hostname')
      );
    case 'minix':
      return firstName(tree.text('/etc/hostname.file', 65536));
    default:
      return undefined;
  }
}
