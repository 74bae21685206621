import type { OsType } from './types.js';

/** libosinfo's short ID, by libguestfs' rules. */
export function osinfoId(type: OsType, distro: string | undefined, major: number, minor: number): string | undefined {
  if (distro === undefined) return undefined;
  switch (distro) {
    case 'centos':
      return major >= 8 ? `centos${major}` : major === 7 ? 'centos7.0' : `centos${major}.${minor}`;
    case 'rocky':
    case 'circle':
    case 'almalinux':
      return major >= 8 ? `${distro}${major}` : undefined;
    case 'debian':
      return major >= 4 ? `debian${major}` : undefined;
    case 'fedora':
    case 'mageia':
      return `${distro}${major}`;
    case 'sles': {
      const base = major >= 15 ? 'sle' : 'sles';
      return minor === 0 ? `${base}${major}` : `${base}${major}sp${minor}`;
    }
    case 'ubuntu':
      return `ubuntu${major}.${String(minor).padStart(2, '0')}`;
    case 'archlinux':
    case 'gentoo':
    case 'voidlinux':
      return distro;
    case 'altlinux':
      return major >= 8 ? `alt${major}.${minor}` : undefined;
    case 'msdos':
      return 'msdos6.22';
    case 'freedos':
      return undefined;
  }
  if (type === 'linux' || type === 'freebsd' || type === 'netbsd' || type === 'openbsd')
    return major === 0 && minor === 0 ? undefined : `${distro}${major}.${minor}`;
  return undefined;
}
