import type { Tree } from '../filesystem/walk.js';
import type { GuestOs } from './types.js';

/** What people ask next about a Linux guest; all of it cheap to read. */
export interface GuestDetails {
  readonly machineId?: string;
  readonly timezone?: string;
  readonly init?: 'systemd' | 'sysvinit' | 'upstart' | 'openrc' | 'runit' | 'busybox' | 's6';
  /** Installed kernels by version, newest file last. */
  readonly kernels: readonly { readonly version: string; readonly path: string }[];
  /** Users who can log in, and root. */
  readonly users: readonly {
    readonly name: string;
    readonly uid: number;
    readonly gid: number;
    readonly home: string;
    readonly shell: string;
    readonly comment: string;
  }[];
  /** Seconds since 1970 of the last boot, where a record of it is cheap to find. */
  readonly lastBoot?: number;
  readonly locale?: string;
}

export function guestDetails(os: GuestOs, tree: Tree): GuestDetails {
  const machineId = tree.text('/etc/machine-id', 4096)?.trim() || tree.text('/var/lib/dbus/machine-id', 4096)?.trim();
  const timezone = timezoneOf(tree);
  const init = os.type === 'linux' ? initOf(tree) : undefined;
  const lastBoot = lastBootOf(tree);
  const locale = /^\s*LANG="?([^"\n]*)"?/m.exec(
    tree.text('/etc/locale.conf', 65536) ?? tree.text('/etc/default/locale', 65536) ?? '',
  )?.[1];
  return {
    ...(machineId && /^[0-9a-f]{32}$/.test(machineId) ? { machineId } : {}),
    ...(timezone === undefined ? {} : { timezone }),
    ...(init === undefined ? {} : { init }),
    ...(locale === undefined ? {} : { locale }),
    kernels: kernelsOf(tree),
    users: usersOf(tree),
    ...(lastBoot === undefined ? {} : { lastBoot }),
  };
}

function timezoneOf(tree: Tree): string | undefined {
  const link = tree.find('/etc/localtime', { follow: false })?.node;
  if (link?.kind === 'symlink') {
    const m = /zoneinfo\/(.+)$/.exec(link.target());
    if (m !== null) return m[1]!;
  }
  const debian = tree.text('/etc/timezone', 4096)?.trim();
  if (debian) return debian;
  return /^\s*(?:ZONE|TIMEZONE)="?([^"\n]+)"?/m.exec(tree.text('/etc/sysconfig/clock', 65536) ?? '')?.[1];
}

const INITS = [
  [/systemd$/, 'systemd'],
  [/openrc-init$/, 'openrc'],
  [/runit(?:-init)?$/, 'runit'],
  [/busybox$/, 'busybox'],
  [/s6-[a-z-]*init$/, 's6'],
  [/upstart$/, 'upstart'],
] as const;

function initOf(tree: Tree): GuestDetails['init'] {
  const path = ['/sbin/init', '/usr/lib/systemd/systemd', '/lib/systemd/systemd']
    .map((p) => tree.find(p)?.path)
    .find((p) => p !== undefined);
  const known = INITS.find(([pattern]) => path !== undefined && pattern.test(path))?.[1];
  if (known !== undefined && known !== 'busybox') return known;
  if (tree.isDirectory('/etc/runlevels') && (tree.exists('/sbin/openrc') || tree.exists('/usr/sbin/openrc'))) return 'openrc';
  if (known !== undefined) return known;
  if (path === undefined) return undefined;
  return tree.isFile('/sbin/initctl') ? 'upstart' : tree.isFile('/etc/inittab') ? 'sysvinit' : undefined;
}

function kernelsOf(tree: Tree): GuestDetails['kernels'] {
  const out = new Map<string, string>();
  for (const name of tree.names('/boot')) {
    const m = /^(?:vmlinuz|vmlinux|bzImage|kernel)-(.+)$/.exec(name);
    if (m !== null) out.set(m[1]!, `/boot/${name}`);
  }
  // Fedora and others keep the image beside the modules.
  for (const dir of ['/lib/modules', '/usr/lib/modules'])
    for (const version of tree.names(dir))
      if (!out.has(version) && tree.isFile(`${dir}/${version}/vmlinuz`)) out.set(version, `${dir}/${version}/vmlinuz`);
  return [...out].map(([version, path]) => ({ version, path }));
}

function usersOf(tree: Tree): GuestDetails['users'] {
  const out: GuestDetails['users'][number][] = [];
  for (const line of (tree.text('/etc/passwd', 16 << 20) ?? '').split('\n')) {
    const f = line.split(':');
    if (f.length < 7) continue;
    const uid = Number(f[2]);
    const canLogIn = !/(?:nologin|false|sync|halt|shutdown)$/.test(f[6]!.trim()) && f[6] !== '';
    if (uid !== 0 && !(canLogIn && uid >= 500 && uid !== 65534)) continue;
    out.push({ name: f[0]!, uid, gid: Number(f[3]), comment: f[4]!.replace(/,+$/, ''), home: f[5]!, shell: f[6]!.trim() });
  }
  return out;
}

/** utmp(5) records of Linux on 64-bit machines: 384 bytes, type 2 is BOOT_TIME, seconds at 340. */
function lastBootOf(tree: Tree): number | undefined {
  const place = tree.find('/var/log/wtmp');
  if (place === undefined || place.node.kind !== 'file') return undefined;
  const size = place.node.stat().size;
  const tail = new Uint8Array(Math.min(size - (size % 384), 384 * 4096));
  const start = size - (size % 384) - tail.length;
  if (tail.length === 0 || place.node.read(tail, start) < tail.length) return undefined;
  const v = new DataView(tail.buffer);
  for (let at = tail.length - 384; at >= 0; at -= 384) if (v.getInt16(at, true) === 2) return v.getInt32(at + 340, true);
  return undefined;
}
