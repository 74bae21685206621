import { existsSync } from 'node:fs';
import picocolors from 'picocolors';
import { GuestError, type GuestOs, humanSize, inspect, type Storage, type StorageNode } from '../../lib/index.js';
import { GuestOptions } from '../shared/guest.js';
import { json, out, printable } from '../shared/output.js';
import { common, jsonOption, type Tool } from '../shared/tool.js';

interface StackNode {
  readonly kind: string;
  readonly device?: string;
  readonly type?: string;
  readonly name?: string;
  readonly size?: number;
  readonly used?: number;
  readonly label?: string;
  readonly uuid?: string;
  readonly detail?: string;
  readonly problems?: readonly string[];
  readonly children: readonly StackNode[];
}

function describeOs(os: GuestOs): StackNode {
  return {
    kind: 'os',
    type: os.type,
    name: [os.distro ?? os.type, os.major === 0 && os.minor === 0 ? '' : `${os.major}.${os.minor}`]
      .filter((s) => s !== '')
      .join(' '),
    detail: [os.productName === undefined || /^[0-9.]+$/.test(os.productName) ? '' : os.productName, os.arch, os.hostname]
      .filter((s) => s !== undefined && s !== '')
      .join(', '),
    children: [],
  };
}

/** The filesystem (or swap, or unknown content) of a device, with the system that has its root there. */
function content(node: StorageNode, storage: Storage, systems: readonly GuestOs[]): StackNode[] {
  const s = node.signature;
  if (s === undefined) return [];
  if (node.member !== undefined) return [];
  const os = systems.filter((o) => o.root === node.device).map(describeOs);
  const mounted = systems.flatMap((o) => o.mountpoints.filter((m) => m.device === node.device).map((m) => m.path));
  const base = {
    kind: s.type === 'swap' ? 'swap' : 'filesystem',
    type: s.type,
    ...(s.label === undefined ? {} : { label: s.label }),
    ...(s.uuid === undefined ? {} : { uuid: s.uuid }),
    ...(mounted.length === 0 ? {} : { detail: mounted.join(', ') }),
  };
  if (s.type === 'swap') return [{ ...base, size: node.size, children: [] }];
  try {
    const fs = storage.open(node);
    const u = fs.usage();
    return [
      {
        ...base,
        size: u.blocks * u.blockSize,
        used: (u.blocks - u.free) * u.blockSize,
        ...(fs.problems.length === 0 ? {} : { problems: fs.problems }),
        children: os,
      },
    ];
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'io') throw e;
    return [{ ...base, size: node.size, problems: [e.message], children: [] }];
  }
}

function nodeOf(node: StorageNode, storage: Storage, systems: readonly GuestOs[], seen: Set<StorageNode>): StackNode {
  seen.add(node);
  const children = [
    ...content(node, storage, systems),
    ...node.children.filter((c) => !seen.has(c)).map((c) => nodeOf(c, storage, systems, seen)),
  ];
  const p = node.partition;
  const group = node.group;
  const detail =
    node.table !== undefined
      ? `${node.table.scheme} partition table, ${node.table.sectorSize}-byte sectors`
      : p?.role === 'extended'
        ? 'extended'
        : group !== undefined
          ? `${group.members.length} physical volume${group.members.length === 1 ? '' : 's'}, ${humanSize(group.free)} free`
          : node.volume !== undefined
            ? node.volume.kinds.join(', ')
            : undefined;
  return {
    kind: node.kind,
    device: node.device,
    size: node.size,
    ...(p === undefined ? (node.member === undefined ? {} : { type: node.member.type }) : { type: node.member?.type ?? p.type }),
    ...(p?.name === undefined || p.name === '' ? {} : { name: p.name }),
    ...(node.path === undefined ? {} : { name: node.path }),
    ...(detail === undefined ? {} : { detail }),
    ...(node.problems.length === 0 ? {} : { problems: node.problems }),
    children,
  };
}

const GUID_NAMES: Readonly<Record<string, string>> = {
  'C12A7328-F81F-11D2-BA4B-00A0C93EC93B': 'EFI system',
  '21686148-6449-6E6F-744E-656564454649': 'BIOS boot',
  '0FC63DAF-8483-4772-8E79-3D69D8477DE4': 'Linux',
  'E6D6D379-F507-44C2-A23C-238F2A3DF928': 'Linux LVM',
  '0657FD6D-A4AB-43C4-84E5-0933C84B4F4F': 'Linux swap',
  'A19D880F-05FC-4D3B-A006-743F0F84911E': 'Linux RAID',
  '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709': 'Linux root (x86-64)',
  'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7': 'Microsoft basic data',
  'E3C9E316-0B5C-4DB8-817D-F92DF00215AE': 'Microsoft reserved',
  'DE94BBA4-06D1-4D40-A16A-BFD50179D6AC': 'Windows recovery',
};

export const tool: Tool = {
  name: 'guestwright stack',
  summary: 'print the storage tree of an image: format, partitions, volumes, filesystems, systems',
  usage: ['guestwright stack [OPTIONS] DISK…', 'guestwright stack [OPTIONS] -a DISK [-a DISK …]'],
  examples: [
    ['everything on a disk at a glance', 'guestwright stack disk.qcow2'],
    ['the same for a program', 'guestwright stack --json disk.qcow2'],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command);
    jsonOption(command);
    return async (args) => {
      for (const a of args) {
        if (existsSync(a) || /^[a-z+]+:\/\//i.test(a)) guest.addDisk(a);
        else guest.domains.push(a);
      }
      const storage = await guest.open();
      const systems = inspect(storage);
      const seen = new Set<StorageNode>();
      const trees = storage.disks.map((d) => ({ ...nodeOf(d, storage, systems, seen), format: formatOf(d) }));
      if (common.json) out.line(json(trees));
      else for (const t of trees) print(t);
      return 0;
    };
  },
};

/** The image's format and size on the host, where the disk is an image. */
function formatOf(d: StorageNode): Record<string, unknown> | undefined {
  const image = d.source as
    | {
        describe?: () => { format: string; clusterSize?: number; backingName?: string; features: readonly string[] };
        file?: { size: number };
      }
    | undefined;
  const info = image?.describe?.();
  return info === undefined
    ? undefined
    : {
        name: info.format,
        fileSize: image?.file?.size,
        ...(info.backingName === undefined ? {} : { backing: info.backingName }),
      };
}

function print(root: StackNode & { readonly format?: Record<string, unknown> | undefined }): void {
  const c = picocolors.createColors(picocolors.isColorSupported && process.stdout.isTTY === true);
  const text = (n: StackNode): string => {
    const size =
      n.size === undefined ? '' : n.used === undefined ? humanSize(n.size) : `${humanSize(n.used)} of ${humanSize(n.size)} used`;
    const type =
      n.type === undefined
        ? ''
        : (GUID_NAMES[n.type] ?? (n.kind === 'partition' && /^[0-9a-f]{2}$/.test(n.type) ? `type ${n.type}` : n.type));
    const label = n.label === undefined || n.label === '' ? '' : `"${printable(n.label)}"`;
    switch (n.kind) {
      case 'os':
        return `${c.bold(c.magenta(printable(n.name ?? '')))}${n.detail ? ` (${printable(n.detail)})` : ''}`;
      case 'filesystem':
      case 'swap':
        return [c.green(type), label, size, n.detail === undefined ? '' : c.dim(`mounted on ${printable(n.detail)}`)]
          .filter((s) => s !== '')
          .join('  ');
      default:
        return [
          c.bold(n.device ?? n.kind),
          type === '' ? '' : c.cyan(type),
          n.name === undefined ? '' : `"${printable(n.name)}"`,
          size,
          n.detail === undefined ? '' : c.dim(n.detail),
        ]
          .filter((s) => s !== '')
          .join('  ');
    }
  };
  const format = root.format;
  const head =
    format === undefined
      ? ''
      : `  ${c.cyan(String(format['name']))}${typeof format['fileSize'] === 'number' ? ` (${humanSize(format['fileSize'])} file)` : ''}${format['backing'] === undefined ? '' : `, backing ${printable(String(format['backing']))}`}`;
  out.line(`${text(root)}${head}`);
  for (const p of root.problems ?? []) out.line(`  ${c.yellow(`! ${printable(p)}`)}`);
  const walk = (nodes: readonly StackNode[], indent: string) => {
    nodes.forEach((n, i) => {
      const last = i === nodes.length - 1;
      out.line(`${indent}${last ? '└─ ' : '├─ '}${text(n)}`);
      const below = `${indent}${last ? '   ' : '│  '}`;
      for (const p of n.problems ?? []) out.line(`${below}${c.yellow(`! ${printable(p)}`)}`);
      walk(n.children, below);
    });
  };
  walk(root.children, '');
}
