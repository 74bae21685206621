import type { Tree } from '../../filesystem/walk.js';
import { parseShellStyle } from './shell-style.js';

export interface Release {
  readonly distro?: string;
  readonly productName?: string;
  readonly major: number;
  readonly minor: number;
  readonly buildId?: string;
  /** os-release ID_LIKE: what kind of distribution an unknown one is. */
  readonly like?: readonly string[];
}

/** os-release IDs whose name in the guestfs API differs from the ID, or that are families of IDs. */
const ID_NAMES: Readonly<Record<string, string>> = {
  alpine: 'alpinelinux',
  arch: 'archlinux',
  kali: 'kalilinux',
  openEuler: 'openeuler',
  pld: 'pldlinux',
  void: 'voidlinux',
  sled: 'sles',
  sles_sap: 'sles',
  ol: 'oraclelinux',
  scientific: 'scientificlinux',
  raspbian: 'debian',
};
const LSB_IDS: Readonly<Record<string, string>> = {
  CoreOS: 'coreos',
  LinuxMint: 'linuxmint',
  Mageia: 'mageia',
  Ubuntu: 'ubuntu',
};
/** os-release gives only the major number of these; their own release file has the rest. */
const MAJOR_ONLY: ReadonlySet<string> = new Set(['debian', 'centos', 'circle', 'rocky']);

export const distroOfId = (id: string): string => (id.startsWith('opensuse') ? 'opensuse' : (ID_NAMES[id] ?? id));

/** "V10", "12.4", "8.9 (Green Obsidian)", "10 SP1" as numbers; 0 for what is not there. */
export function versionNumbers(text: string): { major: number; minor: number } {
  const neokylin = /V([0-9]+)Update([0-9]+)/.exec(text);
  const m = neokylin ?? /([0-9]+)\.([0-9]+)/.exec(text) ?? /([0-9]+)/.exec(text);
  return { major: Number(m?.[1] ?? 0), minor: Number(m?.[2] ?? 0) };
}

function osRelease(tree: Tree): Release | undefined {
  const text = tree.text('/etc/os-release') ?? tree.text('/usr/lib/os-release');
  if (text === undefined) return undefined;
  const keys = parseShellStyle(text);
  const id = keys.get('ID');
  if (id === undefined) return undefined;
  const distro = distroOfId(id);
  const version = versionNumbers(keys.get('VERSION_ID') ?? '');
  if (MAJOR_ONLY.has(distro) && id !== 'raspbian' && version.minor === 0 && specific(tree, distro)) return undefined;
  const productName = keys.get('PRETTY_NAME') ?? keys.get('NAME');
  const buildId = keys.get('BUILD_ID');
  const like = keys
    .get('ID_LIKE')
    ?.split(/\s+/)
    .filter((s) => s !== '');
  return {
    distro,
    ...version,
    ...(productName === undefined ? {} : { productName }),
    ...(buildId === undefined ? {} : { buildId }),
    ...(like === undefined ? {} : { like }),
  };
}
/** Does the distribution's own release file exist, to say more than os-release does? */
const specific = (tree: Tree, distro: string) =>
  tree.isFile(distro === 'debian' ? '/etc/debian_version' : `/etc/${distro}-release`) || tree.isFile('/etc/redhat-release');

function lsbRelease(tree: Tree): Release | undefined {
  const text = tree.text('/etc/lsb-release');
  if (text === undefined) return undefined;
  const keys = parseShellStyle(text);
  const distro = LSB_IDS[keys.get('DISTRIB_ID') ?? ''];
  const productName = keys.get('DISTRIB_DESCRIPTION');
  if (distro === undefined || productName === undefined) return undefined;
  return { distro, productName, ...versionNumbers(keys.get('DISTRIB_RELEASE') ?? '') };
}

/** A release file whose first line is the product name; `pattern` must match it where one file serves several systems. */
interface ReleaseFile {
  readonly file: string;
  readonly distro: string;
  readonly pattern?: RegExp;
}
const VERSION = String.raw`.*?release\s+([0-9]+)(?:\.([0-9]+))?`;
const named = (name: string) => new RegExp(`${name}${VERSION}`);
const RELEASE_FILES: readonly ReleaseFile[] = [
  { file: '/etc/openmandriva-release', distro: 'openmandriva', pattern: named('OpenMandriva') },
  { file: '/etc/opencloudos-release', distro: 'opencloudos', pattern: named('OpenCloudOS') },
  { file: '/etc/tencentos-release', distro: 'tencentos', pattern: named('TencentOS') },
  { file: '/etc/oracle-release', distro: 'oraclelinux', pattern: named('Oracle Linux') },
  { file: '/etc/almalinux-release', distro: 'almalinux', pattern: named('AlmaLinux') },
  { file: '/etc/centos-release', distro: 'centos', pattern: named('CentOS') },
  { file: '/etc/circle-release', distro: 'circle', pattern: named('Circle') },
  { file: '/etc/rocky-release', distro: 'rocky', pattern: named('Rocky Linux') },
  { file: '/etc/altlinux-release', distro: 'altlinux' },
  { file: '/etc/redhat-release', distro: 'fedora', pattern: named('Fedora') },
  {
    file: '/etc/redhat-release',
    distro: 'rhel',
    pattern: /Red Hat Enterprise Linux.*?release\s+([0-9]+)(?:.*?Update\s+([0-9]+)|\.([0-9]+))?/,
  },
  { file: '/etc/redhat-release', distro: 'centos', pattern: named('CentOS') },
  { file: '/etc/redhat-release', distro: 'circle', pattern: named('Circle') },
  { file: '/etc/redhat-release', distro: 'rocky', pattern: named('Rocky Linux') },
  { file: '/etc/redhat-release', distro: 'almalinux', pattern: named('AlmaLinux') },
  { file: '/etc/redhat-release', distro: 'scientificlinux', pattern: named('Scientific Linux') },
  { file: '/etc/redhat-release', distro: 'redhat-based' },
  { file: '/etc/debian_version', distro: 'debian' },
  { file: '/etc/pardus-release', distro: 'pardus' },
  { file: '/etc/arch-release', distro: 'archlinux' },
  { file: '/etc/gentoo-release', distro: 'gentoo' },
  { file: '/etc/meego-release', distro: 'meego' },
  { file: '/etc/slackware-version', distro: 'slackware' },
  { file: '/etc/ttylinux-target', distro: 'ttylinux' },
  { file: '/etc/SuSE-release', distro: 'suse' },
  { file: '/etc/cirros/version', distro: 'cirros' },
  { file: '/etc/alpine-release', distro: 'alpinelinux' },
  { file: '/etc/frugalware-release', distro: 'frugalware', pattern: /Frugalware ([0-9]+)(?:\.([0-9]+))?/ },
  { file: '/etc/pld-release', distro: 'pldlinux', pattern: /([0-9]+)\.([0-9]+)\s+PLD/ },
];

function fromFile(tree: Tree, rule: ReleaseFile): Release | undefined {
  const text = tree.text(rule.file);
  if (text === undefined) return undefined;
  const line = (text.split('\n')[0] ?? '').trim();
  if (rule.distro === 'suse') return suse(text);
  if (rule.pattern === undefined)
    return line === '' && rule.distro !== 'archlinux'
      ? undefined
      : { distro: rule.distro, ...(line === '' ? {} : { productName: line }), ...versionNumbers(line) };
  const m = rule.pattern.exec(line);
  return m === null
    ? undefined
    : { distro: rule.distro, productName: line, major: Number(m[1]), minor: Number(m[2] ?? m[3] ?? 0) };
}

/** Three lines: the name, "VERSION = 11", "PATCHLEVEL = 3". */
function suse(text: string): Release {
  const name = (text.split('\n')[0] ?? '').trim();
  const number = (key: string) =>
    /^[0-9]+(?:\.[0-9]+)?/.exec(new RegExp(`^${key}\\s*=\\s*(.*)$`, 'm').exec(text)?.[1] ?? '')?.[0];
  const version = number('VERSION') ?? '0';
  const distro = /openSUSE/i.test(name) ? 'opensuse' : /SUSE Linux Enterprise/i.test(name) ? 'sles' : 'suse-based';
  const [major, minor] = version.split('.');
  return { distro, productName: name, major: Number(major), minor: Number(number('PATCHLEVEL') ?? minor ?? 0) };
}

/** What distribution this is, by the first source that says enough. */
export function linuxRelease(tree: Tree): Release {
  const known = osRelease(tree) ?? lsbRelease(tree);
  if (known !== undefined) return known;
  for (const rule of RELEASE_FILES) {
    const r = fromFile(tree, rule);
    if (r !== undefined) return r;
  }
  return { major: 0, minor: 0 };
}
