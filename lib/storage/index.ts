import type { BlockSource } from '../block/source.js';
import { window } from '../block/window.js';
import { explain, GuestError, within } from '../core/errors.js';
import { debug } from '../core/log.js';
import type { FileSystem, OpenOptions, Signature } from '../filesystem/driver.js';
import { driverFor, probeFileSystem } from '../filesystem/registry.js';
import { Tree } from '../filesystem/walk.js';
import { schemeOf } from '../partition/registry.js';
import type { Partition, PartitionTable } from '../partition/scheme.js';
import { type KeyRing, type Member, noKeys, type Volume, type VolumeGroup, type VolumeManager } from '../volume/manager.js';
import { managers } from '../volume/registry.js';
import { canonicalDiskDevice, diskName, mapperName, unescapeUdev } from './names.js';
import { knownSignature } from './signatures.js';

/** One disk of a guest, already opened. */
export interface DiskInput {
  readonly source: BlockSource;
  /** As the user named it. */
  readonly path: string;
}

/**
 * The storage stack: a tree from disks down to filesystems.  Everything above asks it, never a driver.  A volume group
 * stands beside the disks (its parents are the devices of its physical volumes).
 */
export interface StorageNode {
  readonly kind: 'disk' | 'partition' | 'volume-group' | 'volume';
  /** "/dev/sda", "/dev/sda1", "/dev/vg", "/dev/vg/root". */
  readonly device: string;
  readonly size: number;
  /** Devices this one is made of. */
  readonly parents: readonly StorageNode[];
  readonly children: StorageNode[];
  /** Undefined for volume groups and for what cannot be read. */
  readonly source?: BlockSource;
  readonly path?: string;
  readonly table?: PartitionTable;
  readonly partition?: Partition;
  readonly group?: VolumeGroup;
  readonly volume?: Volume;
  /** Physical volume, RAID member, encrypted container. */
  readonly member?: Member;
  readonly manager?: VolumeManager;
  /** Filesystem, swap, member: what blkid would say is on it. */
  readonly signature?: Signature;
  readonly problems: readonly string[];
}
type Draft = { -readonly [K in keyof StorageNode]: StorageNode[K] } & { problems: string[] };

/** GPT types that hold no filesystem: LDM metadata and data, Microsoft reserved, Windows snapshot. */
const NOT_A_FILESYSTEM: ReadonlySet<string> = new Set([
  '5808C8AA-7E8F-42E0-85D2-E1E90434CFB3',
  'AF9B60A0-1431-4F62-BC68-3311714A69AD',
  'E3C9E316-0B5C-4DB8-817D-F92DF00215AE',
  'CADDEBF1-4400-4DE8-B103-12117DCF3CCF',
]);

export class Storage {
  readonly #disks: Draft[] = [];
  readonly #groups: Draft[] = [];
  readonly #byDevice = new Map<string, Draft>();
  readonly #open = new Map<string, FileSystem>();

  /** Walks all disks: partition tables, volume groups, filesystem signatures.  Nothing is opened that need not be. */
  constructor(
    disks: readonly DiskInput[],
    private readonly keys: KeyRing = noKeys,
  ) {
    for (const [i, d] of disks.entries()) {
      const node = this.#add({
        kind: 'disk',
        device: `/dev/${diskName(i)}`,
        size: d.source.size,
        parents: [],
        children: [],
        source: d.source,
        path: d.path,
        problems: [],
      });
      this.#disks.push(node);
      within({ path: d.path }, () => this.#examine(node));
    }
    this.#assembleVolumes();
  }

  get disks(): readonly StorageNode[] {
    return this.#disks;
  }
  get volumeGroups(): readonly StorageNode[] {
    return this.#groups;
  }

  #add(node: Draft): Draft {
    this.#byDevice.set(node.device, node);
    for (const p of node.parents) p.children.push(node);
    return node;
  }

  #examine(node: Draft): void {
    const source = node.source;
    if (source === undefined || source.size < 512) return;
    const scheme = node.kind === 'disk' ? schemeOf(source) : undefined;
    if (scheme !== undefined) {
      try {
        node.table = scheme.read(source);
        node.problems.push(...node.table.problems);
      } catch (e) {
        if (!(e instanceof GuestError) || e.code === 'io') throw e;
        node.problems.push(e.message);
      }
    }
    if (node.table !== undefined) {
      debug('storage', () => `${node.device}: ${scheme!.name} partition table, ${node.table!.partitions.length} partitions`);
      for (const p of node.table.partitions) {
        const device = `${node.device}${p.number}`;
        const child = this.#add({
          kind: 'partition',
          device,
          size: p.size,
          parents: [node],
          children: [],
          partition: p,
          problems: [],
          source: window(source, p.start, p.size, `${source.label}, partition ${p.number}`),
        });
        if (p.role !== 'extended') this.#examine(child);
      }
      return;
    }
    for (const m of managers) {
      const member = m.probe(source);
      if (member === undefined) continue;
      node.member = { ...member, device: node.device };
      node.manager = m;
      debug('storage', () => `${node.device}: ${member.type}, ${member.uuid}`);
      node.signature = { type: member.type, uuid: member.uuid };
      return;
    }
    const signature = probeFileSystem(source) ?? knownSignature(source);
    if (signature !== undefined) node.signature = signature;
    debug('storage', () => `${node.device}: ${signature?.type ?? 'unknown content'}`);
  }

  /** Volumes can hold members of further groups (a PV on an LV, LVM in LUKS), so this goes on until nothing new appears. */
  #assembleVolumes(): void {
    const done = new Set<string>();
    for (let round = 0; round < 8; round++) {
      let found = false;
      for (const manager of managers) {
        const nodes = [...this.#byDevice.values()].filter((n) => n.manager === manager);
        if (nodes.length === 0) continue;
        for (const group of manager.assemble(
          nodes.map((n) => n.member!),
          this.keys,
        )) {
          const key = `${manager.name}:${group.uuid}:${group.members.map((m) => m.uuid).join()}`;
          if (done.has(key)) continue;
          done.add(key);
          found = true;
          const parents = nodes.filter((n) => group.members.some((m) => m.uuid === n.member!.uuid));
          if (group.uuid === '') {
            for (const p of parents) (p as Draft).problems.push(...group.problems);
            continue;
          }
          this.#addGroup(manager.name, group, parents);
        }
      }
      if (!found) return;
    }
  }

  #addGroup(manager: string, group: VolumeGroup, parents: readonly Draft[]): void {
    const problems = [...group.problems, ...group.missing.map((m) => `physical volume ${m} is missing`)];
    // Only LVM has groups with a name of their own; a RAID array or an encrypted device is just its one volume.
    let above = parents;
    if (manager === 'lvm2') {
      const existing = this.#byDevice.get(`/dev/${group.name}`);
      if (existing !== undefined) {
        existing.problems.push(`a second volume group has the same name (UUID ${group.uuid}); it is left out`);
        return;
      }
      const node = this.#add({
        kind: 'volume-group',
        device: `/dev/${group.name}`,
        size: group.size,
        parents,
        children: [],
        group,
        problems,
      });
      this.#groups.push(node);
      above = [node];
    }
    for (const volume of group.volumes) {
      const node = this.#add({
        kind: 'volume',
        device: volume.device,
        size: volume.size,
        parents: above,
        children: [],
        volume,
        problems: [],
      });
      if (volume.unreadable !== undefined) {
        node.problems.push(volume.unreadable);
        continue;
      }
      try {
        node.source = volume.open();
        this.#examine(node);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
        debug('storage', () => `${volume.device}: ${explain(e)}`);
        node.problems.push(e.message);
      }
    }
  }

  /** Every device, disks first, each followed by what is on it. */
  *nodes(): Generator<StorageNode> {
    const seen = new Set<StorageNode>();
    const visit = function* (n: StorageNode): Generator<StorageNode> {
      if (seen.has(n)) return;
      seen.add(n);
      yield n;
      for (const c of n.children) yield* visit(c);
    };
    for (const d of this.#disks) yield* visit(d);
  }

  /** Devices with something mountable or swap on them, in libguestfs' order: whole disks, partitions, logical volumes. */
  fileSystems(): readonly StorageNode[] {
    return this.contents().filter((n) => n.signature !== undefined);
  }

  /** As `fileSystems`, with the devices whose content is unknown. */
  contents(): readonly StorageNode[] {
    const all = [...this.nodes()].filter(
      (n) =>
        n.kind !== 'volume-group' &&
        n.table === undefined &&
        n.member === undefined &&
        n.partition?.role !== 'extended' &&
        !NOT_A_FILESYSTEM.has(n.partition?.type ?? '') &&
        !/_member$|^crypto_LUKS$|^BitLocker$/.test(n.signature?.type ?? ''),
    );
    const rank = { disk: 0, partition: 1, 'volume-group': 2, volume: 3 } as const;
    const order = new Map([...this.#byDevice.keys()].map((d, i) => [d, i]));
    return all.sort((a, b) => rank[a.kind] - rank[b.kind] || order.get(a.device)! - order.get(b.device)!);
  }

  /**
   * A device by any of the names a guest's configuration uses: /dev/vda1, UUID=, LABEL=, PARTUUID=, PARTLABEL=,
   * /dev/mapper/vg-lv, /dev/disk/by-….  Undefined when there is none.
   */
  find(name: string): StorageNode | undefined {
    const direct = this.#byDevice.get(name);
    if (direct !== undefined) return direct;
    const tag = /^(UUID|LABEL|PARTUUID|PARTLABEL)="?([^"]*)"?$/.exec(name);
    if (tag !== null) return this.#byTag(tag[1]!, tag[2]!);
    const link = /^\/dev\/disk\/by-(uuid|label|partuuid|partlabel)\/(.+)$/.exec(name);
    if (link !== null) return this.#byTag(link[1]!.toUpperCase(), unescapeUdev(link[2]!));
    const dm = /^\/dev\/disk\/by-id\/dm-name-(.+)$/.exec(name);
    if (dm !== null) return this.#byMapper(`/dev/mapper/${unescapeUdev(dm[1]!)}`);
    if (name.startsWith('/dev/mapper/')) return this.#byMapper(name);
    const canonical = canonicalDiskDevice(name);
    return canonical === undefined ? undefined : this.#byDevice.get(canonical);
  }
  #byTag(tag: string, value: string): StorageNode | undefined {
    const want = value.toLowerCase();
    for (const n of this.#byDevice.values()) {
      if (tag === 'UUID' && n.signature?.uuid?.toLowerCase() === want) return n;
      if (tag === 'LABEL' && n.signature?.label === value) return n;
      if (tag === 'PARTUUID' && n.partition?.id?.toLowerCase() === want) return n;
      if (tag === 'PARTLABEL' && n.partition?.name === value) return n;
    }
    return undefined;
  }
  #byMapper(name: string): StorageNode | undefined {
    for (const g of this.#groups) for (const v of g.children) if (mapperName(g.group!.name, v.volume!.name) === name) return v;
    return this.#byDevice.get(name);
  }

  /** As `find`, but throws and lists what there is. */
  get(name: string): StorageNode {
    const n = this.find(name);
    if (n !== undefined) return n;
    const known = this.fileSystems().map((x) => x.device);
    throw new GuestError(
      'not-found',
      `no such device${known.length === 0 ? ' (no filesystem was found)' : ` (filesystems: ${known.join(', ')})`}`,
      { device: name },
    );
  }

  /** The filesystem on a device, opened once. */
  open(device: string | StorageNode, options?: OpenOptions): FileSystem {
    const node = typeof device === 'string' ? this.get(device) : device;
    const known = options === undefined ? this.#open.get(node.device) : undefined;
    if (known !== undefined) return known;
    if (node.source === undefined)
      throw new GuestError('unsupported', node.problems[0] ?? 'nothing to read here', { device: node.device });
    const driver = driverFor(node.source);
    if (driver === undefined) {
      const type = node.signature?.type;
      throw new GuestError('unsupported', type === undefined ? 'no filesystem that we know' : `${type} is not readable yet`, {
        device: node.device,
      });
    }
    const fs = within({ device: node.device }, () => driver.open(node.source!, options));
    debug('storage', () => `${node.device}: opened by the ${driver.name} driver${fs.problems.map((p) => `; ${p}`).join('')}`);
    if (options === undefined) this.#open.set(node.device, fs);
    return fs;
  }

  /** A tree with these devices mounted, the first one on "/" (or where `path` says "/"); shorter mount points come first. */
  mount(mounts: readonly { readonly device: string; readonly path: string }[]): Tree {
    const sorted = [...mounts].sort((a, b) => a.path.length - b.path.length);
    const root = sorted.find((m) => m.path === '/');
    if (root === undefined) throw new GuestError('usage', 'no device is mounted on /');
    const tree = new Tree(this.open(root.device));
    for (const m of sorted) if (m !== root) within({ device: m.device }, () => tree.mount(m.path, this.open(m.device)));
    return tree;
  }

  close(): void {
    for (const fs of this.#open.values()) fs.close();
    this.#open.clear();
    for (const d of this.#disks) d.source?.close();
  }
}
