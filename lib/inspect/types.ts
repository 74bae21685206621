import type { StorageNode } from '../storage/index.js';

export type OsType = 'linux' | 'freebsd' | 'netbsd' | 'openbsd' | 'hurd' | 'minix' | 'dos' | 'windows';

/** One operating system found on a guest's disks.  Field names follow the guestfs inspection API. */
export interface GuestOs {
  /** Device of the root filesystem. */
  readonly root: string;
  readonly type: OsType;
  /** libguestfs' name, or the distribution's own ID where libguestfs has none. */
  readonly distro?: string;
  readonly productName?: string;
  readonly productVariant?: string;
  readonly major: number;
  readonly minor: number;
  readonly arch?: string;
  readonly hostname?: string;
  readonly packageFormat?: string;
  readonly packageManagement?: string;
  readonly buildId?: string;
  /** libosinfo short ID. */
  readonly osinfo?: string;
  /** Shortest path first, "/" among them. */
  readonly mountpoints: readonly Mountpoint[];
  /** All devices that belong to it, swap too, sorted. */
  readonly filesystems: readonly string[];
  /** Entries of fstab that name no device of this guest, and whatever else went wrong. */
  readonly problems: readonly string[];
}

export interface Mountpoint {
  readonly path: string;
  readonly device: string;
  readonly options?: string;
}

/** What a filesystem turned out to be. */
export interface Classified {
  readonly node: StorageNode;
  readonly role: 'root' | 'usr' | 'other';
  readonly type?: OsType;
  readonly coreos?: boolean;
}
