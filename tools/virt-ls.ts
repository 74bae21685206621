import { existsSync } from 'node:fs';
import { Option } from 'commander';
import { GuestError, type Node, type Stat, type Tree } from '../lib/index.js';
import { GuestOptions, legacyDisk } from './shared/guest.js';
import { columns, csvRow, json, out } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';
import { checksumOf, modeText, VisitOptions } from './shared/visit.js';

/** ls -lan (ids as numbers, as they have always been here): "total" in 1K blocks, then mode, links, owner, group, size or device, time, name. */
function longListing(tree: Tree, directory: string): string[] {
  const place = tree.get(directory);
  if (place.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path: directory });
  const entries: [string, Node][] = [
    ['.', place.node],
    ['..', tree.get(`${place.path}/..`).node],
  ];
  for (const name of tree.names(directory)) entries.push([name, tree.get(`${place.path}/${name}`, { follow: false }).node]);
  let total = 0;
  const now = Date.now() / 1000;
  const rows = entries.map(([name, node]) => {
    const s = node.stat();
    total += s.blocks;
    const size = s.rdev === undefined ? String(s.size) : `${s.rdev.major}, ${s.rdev.minor}`;
    const acl = node.attributes().has('system.posix_acl_access') ? '+' : node.attributes().has('security.selinux') ? '.' : '';
    return [
      modeText(s.mode, node.kind) + acl,
      String(s.links),
      String(s.uid),
      String(s.gid),
      size,
      lsTime(s.mtime.sec, now),
      node.kind === 'symlink' ? `${name} -> ${node.target()}` : name,
    ];
  });
  return [`total ${Math.floor(total / 2)}`, ...columns(rows, { right: [1, 4], gap: ' ' })];
}

/** "Nov 24 15:02", or the year for what is older than half a year or in the future. */
function lsTime(sec: number, now: number): string {
  const d = new Date(sec * 1000);
  if (Number.isNaN(d.getTime())) return String(sec);
  const month = d.toLocaleString('en-US', { month: 'short', timeZone: 'UTC' });
  const day = String(d.getUTCDate()).padStart(2);
  const recent = sec <= now && sec > now - 15778476;
  return `${month} ${day} ${recent ? d.toISOString().slice(11, 16) : String(d.getUTCFullYear()).padStart(5)}`;
}

interface JsonEntry {
  readonly path: string;
  readonly type: string;
  readonly stat?: Stat;
  readonly target?: string;
  readonly checksum?: string;
}

export const tool: Tool = {
  name: 'virt-ls',
  summary: 'list files of a guest',
  usage: ['virt-ls [OPTIONS] -a DISK [-a DISK …] DIR…', 'virt-ls [OPTIONS] -d DOMAIN DIR…'],
  examples: [
    ['names', 'virt-ls -a disk.qcow2 /etc'],
    ['as ls -la', 'virt-ls -l -a disk.qcow2 /root'],
    ['everything below /etc with owners and SHA-256', 'virt-ls -lR --uids --checksum=sha256 -a disk.qcow2 /etc'],
    ['setuid programs', "virt-ls -lR -a disk.qcow2 / | grep '^- [42]'"],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    const visit = new VisitOptions().addOptions(command);
    let long = false;
    let recursive = false;
    command.addOption(
      new Option('-l, --long', 'long listing').argParser(() => {
        long = true;
        return true;
      }),
    );
    command.addOption(
      new Option('-R, --recursive', 'descend').argParser(() => {
        recursive = true;
        return true;
      }),
    );
    jsonOption(command);
    return async (given) => {
      const directories = legacyDisk(guest, given, existsSync);
      if (directories.length === 0) throw new GuestError('usage', 'no directory to list: name one or more after the options');
      const columnsAsked = visit.csv || visit.times || visit.uids || visit.extraStats || visit.checksum !== undefined;
      if (columnsAsked && !(long && recursive) && !common.json)
        throw new GuestError('usage', '--csv, --times, --uids, --extra-stats and --checksum are for -lR');
      const { tree } = await guest.openTree();
      if (common.json) {
        out.line(json(directories.flatMap((d) => jsonEntries(tree, d, recursive, long, visit))));
        return 0;
      }
      for (const directory of directories) list(tree, directory, { long, recursive, visit });
      return 0;
    };
  },
};

function list(
  tree: Tree,
  directory: string,
  o: { readonly long: boolean; readonly recursive: boolean; readonly visit: VisitOptions },
): void {
  if (!o.recursive) {
    if (o.long) for (const l of longListing(tree, directory)) out.line(l);
    else {
      tree.list(directory); // throws for what is no directory
      for (const name of tree.names(directory)) out.line(name);
    }
    return;
  }
  const start = tree.get(directory);
  if (start.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path: directory });
  const show = (node: Node, path: string) => {
    const fields = o.visit.fields(node, node.stat(), path);
    out.line(o.visit.csv ? csvRow(fields) : fields.join(' '));
  };
  if (o.long) show(start.node, start.path);
  // As find in libguestfs: what follows the directory as it was named, so "/etc" gives "/passwd", "/etc/" gives "passwd".
  const prefix = start.path === '/' ? 1 : start.path.length + (directory.endsWith('/') ? 1 : 0);
  for (const step of tree.walk(directory)) {
    if (o.long) show(step.node, step.path);
    else out.line(step.path.slice(prefix));
  }
}

function jsonEntries(tree: Tree, directory: string, recursive: boolean, long: boolean, visit: VisitOptions): JsonEntry[] {
  const entry = (node: Node, path: string): JsonEntry => ({
    path,
    type: node.kind,
    ...(long || recursive ? { stat: node.stat() } : {}),
    ...(node.kind === 'symlink' ? { target: node.target() } : {}),
    ...(visit.checksum !== undefined && node.kind === 'file' ? { checksum: checksumOf(node, visit.checksum) } : {}),
  });
  const place = tree.get(directory);
  if (place.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path: directory });
  if (recursive) return [...tree.walk(directory)].map((s) => entry(s.node, s.path));
  const base = place.path === '/' ? '' : place.path;
  return tree.names(directory).map((n) => entry(tree.get(`${base}/${n}`, { follow: false }).node, `${base}/${n}`));
}
