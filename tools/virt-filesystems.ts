import { type Command, Option } from 'commander';
import { GuestError, humanSize, type Storage, type StorageNode } from '../lib/index.js';
import { GuestOptions } from './shared/guest.js';
import { columns, columnWidths, csvRow, json, out, printable } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';

type RowType = 'filesystem' | 'subvolume' | 'lv' | 'vg' | 'pv' | 'partition' | 'device';
interface Row {
  readonly name: string;
  readonly type: RowType;
  readonly vfs?: string;
  readonly label?: string;
  readonly mbr?: string;
  readonly size: number;
  readonly parents: readonly string[];
  readonly uuid?: string;
}

const MAX_WIDTH = 72;

const SECTIONS = ['filesystems', 'lvs', 'vgs', 'pvs', 'parts', 'blkdevs'] as const;
type Section = (typeof SECTIONS)[number];

/** Bytes that a filesystem offers (as statvfs has it), or its device's size where it cannot be opened. */
function sizeOf(storage: Storage, node: StorageNode): number {
  try {
    const u = storage.open(node).usage();
    return u.blocks * u.blockSize;
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'io') throw e;
    return node.size;
  }
}

/** Groups and physical volumes have always been printed without dashes here, logical volumes with them. */
const plain = (uuid: string) => uuid.replaceAll('-', '');

function rowsOf(storage: Storage, sections: ReadonlySet<Section>, extra: boolean): Row[] {
  const nodes = [...storage.nodes()];
  const rows: Row[] = [];
  const add = (type: RowType, node: StorageNode, more: Partial<Row> = {}) =>
    rows.push({ name: node.device, type, size: node.size, parents: [], ...more });
  if (sections.has('filesystems'))
    for (const n of storage.contents()) {
      const type = n.signature?.type ?? 'unknown';
      if (!extra && (type === 'swap' || type === 'unknown')) continue;
      add('filesystem', n, {
        vfs: type,
        size: n.signature === undefined ? n.size : sizeOf(storage, n),
        ...(n.signature?.label === undefined ? {} : { label: n.signature.label }),
        ...(n.signature?.uuid === undefined ? {} : { uuid: n.signature.uuid }),
      });
    }
  if (sections.has('lvs'))
    for (const n of nodes)
      if (n.kind === 'volume' && n.parents[0]?.kind === 'volume-group')
        add('lv', n, {
          parents: n.parents.map((p) => p.device),
          ...(n.volume?.uuid === undefined ? {} : { uuid: n.volume.uuid }),
        });
  if (sections.has('vgs'))
    for (const n of storage.volumeGroups) add('vg', n, { parents: n.parents.map((p) => p.device), uuid: plain(n.group!.uuid) });
  if (sections.has('pvs'))
    for (const n of nodes)
      if (n.member?.type === 'LVM2_member') {
        const size = n.children[0]?.group?.memberSizes.get(n.member.uuid);
        add('pv', n, { uuid: plain(n.member.uuid), ...(size === undefined ? {} : { size }) });
      }
  if (sections.has('parts'))
    for (const n of nodes)
      if (n.partition !== undefined)
        add('partition', n, {
          parents: n.parents.map((p) => p.device),
          ...(n.parents[0]?.table?.scheme === 'mbr' ? { mbr: n.partition.type } : {}),
        });
  if (sections.has('blkdevs')) for (const n of storage.disks) add('device', n);
  return rows;
}

export const tool: Tool = {
  name: 'virt-filesystems',
  summary: 'list filesystems, partitions, block devices and LVM objects of a disk image',
  usage: ['virt-filesystems [OPTIONS] -a DISK [-a DISK …]', 'virt-filesystems [OPTIONS] -d DOMAIN'],
  examples: [
    ['the mountable filesystems', 'virt-filesystems -a disk.qcow2'],
    ['everything, with sizes people read', 'virt-filesystems -a disk.qcow2 --all --long -h'],
    ['the same for a program', 'virt-filesystems -a disk.qcow2 --all --json'],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command);
    const sections = new Set<Section>();
    let extra = false;
    let long = false;
    let human = false;
    let csv = false;
    let title = true;
    let uuid = false;
    let version = false;
    /** Several spellings of one flag: the first is shown in --help. */
    const flag = (names: string, help: string, then: () => void) => {
      const [first, ...aliases] = names.startsWith('-l,') || names.startsWith('-h,') ? [names] : names.split(', ');
      for (const [i, name] of [first!, ...aliases].entries()) {
        const option = new Option(name, help).argParser(() => {
          then();
          return true;
        });
        command.addOption(i > 0 ? option.hideHelp() : option);
      }
    };
    flagAll(command, sections, () => {
      extra = true;
    });
    flag('--filesystems', 'mountable filesystems (the default)', () => sections.add('filesystems'));
    flag('--extra', 'also swap, and devices whose content is unknown', () => {
      extra = true;
      sections.add('filesystems');
    });
    flag('--partitions, --parts', 'partitions', () => sections.add('parts'));
    flag('--block-devices, --blkdevs', 'block devices', () => sections.add('blkdevs'));
    flag('--lvs, --logvols, --logical-volumes', 'logical volumes', () => sections.add('lvs'));
    flag('--vgs, --volgroups, --volume-groups', 'volume groups', () => sections.add('vgs'));
    flag('--pvs, --physvols, --physical-volumes', 'physical volumes', () => sections.add('pvs'));
    flag('-l, --long', 'more columns', () => {
      long = true;
    });
    flag('-h, --human-readable', 'sizes as 1.5G', () => {
      human = true;
    });
    flag('--csv', 'comma-separated values', () => {
      csv = true;
    });
    flag('--no-title', 'without the heading', () => {
      title = false;
    });
    flag('--uuid, --uuids', 'with UUIDs', () => {
      uuid = true;
    });
    flag('--fs-version', 'with the filesystem version column', () => {
      version = true;
    });
    jsonOption(command);
    return async () => {
      if (csv && human) throw new GuestError('usage', '--csv and -h exclude each other');
      if (sections.size === 0) sections.add('filesystems');
      const storage = await guest.open();
      const rows = rowsOf(storage, sections, extra);
      if (common.json) {
        out.line(json(rows.map(({ parents, ...r }) => ({ ...r, parents }))));
        return 0;
      }
      const heads = ['Name'];
      const fields: ((r: Row) => string)[] = [(r) => r.name];
      const column = (head: string, field: (r: Row) => string) => {
        heads.push(head);
        fields.push(field);
      };
      const empty = csv ? '' : '-';
      if (long) column('Type', (r) => r.type);
      if (long && sections.has('filesystems')) {
        column('VFS', (r) => r.vfs ?? empty);
        column('Label', (r) => (r.label === undefined || r.label === '' ? empty : csv ? r.label : printable(r.label)));
      }
      if (long && sections.has('parts')) column('MBR', (r) => r.mbr ?? empty);
      if (long) {
        column('Size', (r) => (human ? humanSize(r.size) : String(r.size)));
        column('Parent', (r) => (r.parents.length === 0 ? empty : r.parents.join(',')));
      }
      if (uuid) column('UUID', (r) => r.uuid ?? empty);
      if (version) column('FSVer', () => empty);
      const table = rows.map((r) => fields.map((f) => f(r)));
      if (heads.length > 1 && title) table.unshift(heads);
      if (csv) for (const r of table) out.line(csvRow(r));
      else {
        // As the original: two spaces between columns, one where that would make the line too long.
        const width = columnWidths(table).reduce((n, w) => n + w + 2, -2);
        for (const l of columns(table, { gap: width > MAX_WIDTH ? ' ' : '  ' })) out.line(l);
      }
      return 0;
    };
  },
};

function flagAll(command: Command, sections: Set<Section>, then: () => void): void {
  command.addOption(
    new Option('--all', 'everything').argParser(() => {
      for (const s of SECTIONS) sections.add(s);
      then();
      return true;
    }),
  );
}
