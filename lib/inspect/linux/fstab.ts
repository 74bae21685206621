import { GuestError } from '../../core/errors.js';
import type { Tree } from '../../filesystem/walk.js';
import type { Storage, StorageNode } from '../../storage/index.js';
import type { Mountpoint } from '../types.js';

export interface FstabEntry {
  readonly spec: string;
  readonly file: string;
  readonly type: string;
  readonly options: string;
}

/** fstab(5): octal escapes in names, comments, blank lines. */
export function parseFstab(text: string): readonly FstabEntry[] {
  const out: FstabEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    if (fields.length < 2 || fields[0]!.startsWith('#')) continue;
    const [spec, file, type, options] = fields.map(unescapeOctal);
    out.push({ spec: spec!, file: file!, type: type ?? 'auto', options: options ?? 'defaults' });
  }
  return out;
}
const unescapeOctal = (s: string) => s.replace(/\\([0-7]{3})/g, (_, o: string) => String.fromCharCode(Number.parseInt(o, 8)));

const IGNORED_SPEC = /^\/dev\/(?:fd[0-9]*|cd[0-9]*|sr[0-9]*|floppy.*|cdrom.*|iso9660\/.*)$/;
const IGNORED_FILE = /^(?:\/dev|\/media|\/proc|\/selinux|\/sys)(?:\/|$)/;

/** What fstab says, in terms of this guest's devices. */
export interface FstabMounts {
  readonly mountpoints: readonly Mountpoint[];
  readonly swap: readonly string[];
  readonly problems: readonly string[];
}

export function fstabMounts(tree: Tree, storage: Storage, root: StorageNode): FstabMounts {
  const mountpoints: Mountpoint[] = [];
  const swap: string[] = [];
  const problems: string[] = [];
  const text = tree.text('/etc/fstab') ?? '';
  const crypt = parseCrypttab(tree.text('/etc/crypttab') ?? '');
  for (const e of parseFstab(text)) {
    const isSwap = e.type === 'swap' || e.file === 'swap' || (e.file === 'none' && e.options.split(',').includes('sw'));
    if (IGNORED_SPEC.test(e.spec) || (!isSwap && (IGNORED_FILE.test(e.file) || !e.file.startsWith('/')))) continue;
    if (!/^(?:\/dev\/|[A-Z]+=)/.test(e.spec)) continue;
    if (e.options.split(',').includes('bind')) continue;
    const node = resolveSpec(e.spec, storage, root, crypt);
    if (node === undefined) {
      problems.push(`/etc/fstab: ${e.spec} (${e.file}) is no device of this guest`);
      // A device that only the running guest makes (a mapped swap, say) keeps its name in the listing, as it always did.
      if (!e.spec.startsWith('/dev/')) continue;
      if (isSwap) swap.push(e.spec);
      else mountpoints.push({ path: trimSlash(e.file), device: e.spec, options: e.options });
      continue;
    }
    if (isSwap) swap.push(node.device);
    else {
      const subvolume = /(?:^|,)subvol=([^,]+)/.exec(e.options)?.[1];
      const device =
        subvolume === undefined || node.signature?.type !== 'btrfs'
          ? node.device
          : `btrfsvol:${node.device}/${subvolume.replace(/^\//, '')}`;
      mountpoints.push({ path: trimSlash(e.file), device, options: e.options });
    }
  }
  return { mountpoints, swap, problems };
}
const trimSlash = (p: string) => (p.length > 1 ? p.replace(/\/+$/, '') || '/' : p);

/** The device that a spec of fstab names. */
function resolveSpec(
  spec: string,
  storage: Storage,
  root: StorageNode,
  crypt: ReadonlyMap<string, string>,
): StorageNode | undefined {
  if (spec === '/dev/root') return root;
  const direct = storage.find(spec);
  if (direct !== undefined) return direct;
  const mapped = /^\/dev\/mapper\/(.+)$/.exec(spec);
  if (mapped !== null && crypt.has(mapped[1]!)) {
    const container = storage.find(crypt.get(mapped[1]!)!);
    return container?.children[0];
  }
  const lvm = /^\/dev\/disk\/by-id\/dm-uuid-LVM-([A-Za-z0-9]{32})([A-Za-z0-9]{32})$/.exec(spec);
  if (lvm !== null) {
    for (const g of storage.volumeGroups)
      if (g.group!.uuid.replaceAll('-', '') === lvm[1])
        return g.children.find((v) => v.volume?.uuid?.replaceAll('-', '') === lvm[2]);
    return undefined;
  }
  // by-id and by-path names carry the hardware's serial, which an image does not have: with one disk only the number counts.
  const part = /^\/dev\/disk\/by-(?:id|path)\/.*-part([0-9]+)$/.exec(spec) ?? /^\/dev\/cciss\/c0d0p([0-9]+)$/.exec(spec);
  if (part !== null) {
    const disk = root.kind === 'partition' ? root.parents[0] : storage.disks[0];
    return disk?.children.find((c) => c.partition?.number === Number(part[1]));
  }
  return undefined;
}

/** crypttab(5): mapped name → device spec. */
function parseCrypttab(text: string): ReadonlyMap<string, string> {
  const out = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [name, device] = line.trim().split(/\s+/);
    if (name !== undefined && device !== undefined && !name.startsWith('#')) out.set(name, device);
  }
  return out;
}

/** True when an error means "not this filesystem, but go on": damage or a format we do not read. */
export const isPassable = (e: unknown): e is GuestError => e instanceof GuestError && e.code !== 'io' && e.code !== 'internal';
