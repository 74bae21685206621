import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import picocolors from 'picocolors';
import {
  addonState,
  codecAddon,
  hasCodec,
  hasKvmAddon,
  hasSysio,
  type KvmState,
  kvmProbe,
  nativeZstd,
  percent,
} from '../../lib/index.js';
import { columns, json, out } from '../shared/output.js';
import { common, jsonOption, type Tool, version } from '../shared/tool.js';

interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly found: string;
  /** What does not work, or is slower, without it. */
  readonly for: string;
  /** What to do when it is missing. */
  readonly remedy?: string;
  /** All that the probe of /dev/kvm found. */
  readonly probe?: KvmState;
}

const LIBRARY_FOLDERS = ['/lib', '/usr/lib', '/usr/local/lib', '/lib64', '/usr/lib64'];

/** A shared library by name in the usual folders and one level below (multiarch). */
function library(name: string): string | undefined {
  for (const dir of LIBRARY_FOLDERS) {
    if (existsSync(join(dir, name))) return join(dir, name);
    if (!existsSync(dir)) continue;
    for (const sub of readdirSync(dir))
      if (/-linux-(?:gnu|musl)/.test(sub) && existsSync(join(dir, sub, name))) return join(dir, sub, name);
  }
  return undefined;
}

/** First line of `COMMAND --version`. */
function programVersion(command: string, args: readonly string[] = ['--version']): string | undefined {
  const r = spawnSync(command, args, { encoding: 'utf8', timeout: 10_000 });
  return r.status === 0 ? (r.stdout.split('\n')[0] ?? '').trim() || command : undefined;
}

function deviceNode(path: string): { readonly ok: boolean; readonly found: string; readonly remedy?: string } {
  if (!existsSync(path))
    return {
      ok: false,
      found: 'missing',
      remedy: 'modprobe fuse',
    };
  if (!statSync(path).isCharacterDevice()) return { ok: false, found: 'is no device' };
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return { ok: true, found: 'present and permitted' };
  } catch {
    return {
      ok: false,
      found: 'permission denied',
      remedy: 'is this user in the fuse group?',
    };
  }
}

/** Present and permitted is not enough: some kernels' KVM emulates each instruction, and not all of them. */
function kvm(refresh: boolean): Finding {
  const probe = kvmProbe({ refresh });
  const rest = { what: '/dev/kvm', for: 'running virtual machines at full speed (reading needs none)', probe };
  switch (probe.kind) {
    case 'missing':
      return { ...rest, ok: false, found: probe.reason, remedy: 'no virtualisation here, or the kvm module is not loaded' };
    case 'denied':
      return { ...rest, ok: false, found: probe.reason, remedy: 'is this user in the kvm group?' };
    case 'unknown':
      return { ...rest, ok: false, found: `unknown: ${probe.reason}`, remedy: 'npm run build:native' };
    case 'fit':
      return { ...rest, ok: true, found: `present, permitted, and fit (${percent(probe.ratio)} of native)` };
    default:
      return { ...rest, ok: false, found: `present but not fit: ${probe.reason}; QEMU without KVM will be used` };
  }
}

const NO_ZSTD = 'loaded, without libzstd (apt-get install libzstd-dev, then npm run build:native)';

function target(name: string, loaded: boolean, purpose: string): Finding {
  const s = addonState(name);
  return {
    what: `addon: ${name}`,
    ok: loaded,
    found: s.loaded ? (name === 'codec' && codecAddon()?.zstd === false ? NO_ZSTD : 'loaded') : s.reason,
    for: purpose,
    ...(loaded ? {} : { remedy: 'apt-get install build-essential python3, then npm run build:native' }),
  };
}

function program(command: string, purpose: string, remedy: string): Finding {
  const v = programVersion(command);
  return {
    what: command,
    ok: v !== undefined,
    found: v ?? 'not installed',
    for: purpose,
    ...(v === undefined ? { remedy } : {}),
  };
}

export function findings(options: { readonly refresh?: boolean } = {}): readonly Finding[] {
  const fuse = library('libfuse3.so.3');
  return [
    { what: 'guestwright', ok: true, found: version(), for: '' },
    { what: 'node', ok: true, found: process.version, for: '' },
    target('sysio', hasSysio(), 'holes, locks, block devices, fast checksums'),
    target('codec', hasCodec(), 'fast encryption and compression on all cores'),
    target('kvm', hasKvmAddon(), 'running virtual machines'),
    {
      what: 'zstd-napi',
      ok: nativeZstd() !== null,
      found: nativeZstd() === null ? 'native part not built' : 'loaded',
      for: 'writing zstd-compressed clusters, fast reading of them',
      ...(nativeZstd() === null ? { remedy: 'npm rebuild zstd-napi' } : {}),
    },
    {
      what: 'libfuse3',
      ok: fuse !== undefined,
      found: fuse ?? 'not installed',
      for: 'mounting guests',
      ...(fuse === undefined ? { remedy: 'apt-get install libfuse3-3 fuse3' } : {}),
    },
    { what: '/dev/fuse', for: 'mounting guests', ...deviceNode('/dev/fuse') },
    kvm(options.refresh ?? false),
    program(
      'qemu-system-x86_64',
      'virtual machines where there is no KVM (reading needs none)',
      'apt-get install qemu-system-x86',
    ),
    program('virsh', '-d DOMAIN: disks of libvirt guests by name', 'apt-get install libvirt-clients'),
  ];
}

export const tool: Tool = {
  name: 'guestwright doctor',
  summary: 'say what this machine offers and what is missing',
  usage: ['guestwright doctor [--json] [--refresh]'],
  examples: [['which parts are native, and is there a KVM?', 'guestwright doctor']],
  setup(command) {
    jsonOption(command);
    command.option('--refresh', 'run the probe of /dev/kvm again (its result is kept until the next boot)');
    return () => {
      const all = findings({ refresh: command.opts<{ refresh?: boolean }>().refresh === true });
      if (common.json) {
        out.line(json(all));
        return 0;
      }
      const c = picocolors.createColors(picocolors.isColorSupported && process.stdout.isTTY === true);
      const lines = columns(
        all.map((f) => [
          f.ok ? 'ok' : '--',
          f.what,
          f.found,
          f.ok ? f.for : `${f.for}${f.remedy === undefined ? '' : `; ${f.remedy}`}`,
        ]),
      );
      for (const [i, l] of lines.entries())
        out.line(all[i]!.ok ? l.replace(/^ok/, c.green('ok')) : l.replace(/^--/, c.yellow('--')));
      out.line();
      out.line('Everything that reads images works with what is marked ok above; "--" names what is missing and for what.');
      return 0;
    };
  },
};
