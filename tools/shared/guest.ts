import { type Command, Option } from 'commander';
import {
  type DiskSpec,
  explain,
  GuestError,
  type GuestOs,
  guestTree,
  inspect,
  openStorage,
  type Storage,
  type Tree,
} from '../../lib/index.js';
import { domainDisks } from './domain.js';
import { ToolKeys } from './keys.js';
import { warn } from './output.js';

export interface MountSpec {
  readonly device: string;
  readonly path: string;
}

/** What -a, -d and their companions gathered, in the order in which they stood. */
export class GuestOptions {
  readonly disks: DiskSpec[] = [];
  readonly domains: string[] = [];
  readonly mounts: MountSpec[] = [];
  readonly keys = new ToolKeys();
  connect: string | undefined;
  #format: string | undefined;
  #sectorSize: number | undefined;

  addOptions(
    command: Command,
    with_: { readonly mount?: boolean; readonly keys?: boolean; readonly formatOption?: string } = {},
  ): this {
    command.addOption(
      new Option('-a, --add <file|uri>', 'add a disk image, block device or http(s) address').argParser((v: string) => {
        this.addDisk(v);
        return v;
      }),
    );
    command.addOption(
      new Option('--blocksize [512|4096]', 'sector size of the disks that follow').argParser((v: string) => {
        if (v !== '' && v !== '512' && v !== '4096') throw new GuestError('usage', `--blocksize: "${v}" is not 512 or 4096`);
        this.#sectorSize = v === '' ? undefined : Number(v);
        return v;
      }),
    );
    command.addOption(
      new Option('-c, --connect <uri>', 'libvirt connection for -d').argParser((v: string) => {
        this.connect = v;
        return v;
      }),
    );
    command.addOption(
      new Option('-d, --domain <name|uuid>', 'add the disks of a libvirt domain').argParser((v: string) => {
        this.domains.push(v);
        return v;
      }),
    );
    command.addOption(
      new Option(
        `${with_.formatOption ?? '--format'} [fmt]`,
        'image format of the disks that follow; empty: look at the contents',
      ).argParser((v: string) => {
        this.#format = v === '' || v === 'auto' ? undefined : v;
        return v;
      }),
    );
    if (with_.keys ?? true) this.keys.addOptions(command);
    if (with_.mount)
      command.addOption(
        new Option('-m, --mount <dev[:mnt[:opts[:fstype]]]>', 'mount this device instead of what inspection finds').argParser(
          (v: string) => {
            const [device, path] = v.split(':');
            this.mounts.push({ device: device!, path: path === undefined || path === '' ? '/' : path });
            return v;
          },
        ),
      );
    return this;
  }

  /** `like` lends its --format and --blocksize (virt-diff: one set of options for two guests). */
  addDisk(path: string, like: GuestOptions = this): void {
    this.disks.push({
      path,
      ...(like.#format === undefined ? {} : { format: like.#format }),
      ...(like.#sectorSize === undefined ? {} : { sectorSize: like.#sectorSize }),
    });
  }

  get given(): boolean {
    return this.disks.length + this.domains.length > 0;
  }

  async allDisks(): Promise<readonly DiskSpec[]> {
    const out = [...this.disks];
    for (const d of this.domains) out.push(...(await domainDisks(d, this.connect)));
    return out;
  }

  async open(): Promise<Storage> {
    const disks = await this.allDisks();
    if (disks.length === 0) throw new GuestError('usage', 'no disk: name one with -a FILE or -d DOMAIN');
    return openStorage(disks, this.keys);
  }

  /** The guest's files: what -m says, else the one operating system that inspection finds. */
  async openTree(): Promise<OpenGuest> {
    const storage = await this.open();
    if (this.mounts.length > 0) {
      const mounts = this.mounts.some((m) => m.path === '/')
        ? this.mounts
        : this.mounts.map((m, i) => (i === 0 ? { ...m, path: '/' } : m));
      return { storage, tree: storage.mount(mounts) };
    }
    const os = onlyOs(storage);
    for (const p of os.problems) if (!p.startsWith('/etc/fstab')) warn(`warning: ${p}`);
    return { storage, os, tree: guestTree(storage, os) };
  }
}

export interface OpenGuest {
  readonly storage: Storage;
  readonly os?: GuestOs;
  readonly tree: Tree;
}

/** The operating system of a guest that has exactly one. */
export function onlyOs(storage: Storage): GuestOs {
  const found = inspect(storage);
  const [os, second] = found;
  if (os === undefined) {
    const seen = storage.fileSystems().map((n) => `${n.device} (${n.signature!.type})`);
    const unread = problemsOf(storage);
    throw new GuestError(
      'not-found',
      `no operating system was found on this disk${seen.length === 0 ? ': it has no filesystem that we know' : `; filesystems: ${seen.join(', ')}; name one with -m DEVICE`}${unread === '' ? '' : ` (${unread})`}`,
    );
  }
  if (second !== undefined)
    throw new GuestError(
      'unsupported',
      `more than one operating system was found (${found.map((o) => o.root).join(', ')}); say which with -m`,
    );
  return os;
}

/** Why filesystems could not be looked into, in one line. */
function problemsOf(storage: Storage): string {
  const out: string[] = [];
  for (const n of storage.fileSystems()) {
    if (n.signature!.type === 'swap') continue;
    try {
      storage.open(n);
    } catch (e) {
      out.push(explain(e));
    }
  }
  for (const n of storage.nodes()) out.push(...n.problems.map((p) => `${n.device}: ${p}`));
  return [...new Set(out)].join('; ');
}

/** "disk.img FILE…" without -a: the first argument is the disk (or a domain when no such file is there). */
export function legacyDisk(guest: GuestOptions, args: readonly string[], isFile: (path: string) => boolean): readonly string[] {
  if (guest.given || args.length === 0) return args;
  const [first, ...rest] = args as [string, ...string[]];
  if (isFile(first) || /^[a-z+]+:\/\//i.test(first)) guest.addDisk(first);
  else guest.domains.push(first);
  return rest;
}
