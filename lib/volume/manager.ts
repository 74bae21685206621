import type { BlockSource } from '../block/source.js';

/** Takes block sources, gives block sources: lvm2, md, ldm join several; luks and bitlocker unlock one. */
export interface VolumeManager {
  readonly name: 'lvm2' | 'md' | 'ldm' | 'luks' | 'bitlocker';
  /** Is this source a part of one of mine?  Reads labels only; never throws for foreign bytes. */
  probe(source: BlockSource): Member | undefined;
  /** All members found on all disks, once.  Missing members are reported in the volume, not thrown. */
  assemble(members: readonly Member[], keys: KeyRing): readonly VolumeGroup[];
}

export interface Member {
  readonly source: BlockSource;
  /** What blkid says: "LVM2_member", "linux_raid_member", "crypto_LUKS", "BitLocker". */
  readonly type: string;
  readonly uuid: string;
  /** "/dev/sda2": put in by the storage stack, which alone knows it. */
  readonly device?: string;
}

export interface VolumeGroup {
  readonly name: string;
  readonly uuid: string;
  readonly size: number;
  readonly free: number;
  readonly members: readonly Member[];
  /** Bytes that each member gives to the group, by UUID: less than its device, which also holds labels and metadata. */
  readonly memberSizes: ReadonlyMap<string, number>;
  readonly missing: readonly string[];
  readonly volumes: readonly Volume[];
  readonly problems: readonly string[];
}

export interface Volume {
  /** "/dev/vg/root", "/dev/md127", "/dev/mapper/luks-UUID". */
  readonly device: string;
  readonly name: string;
  readonly uuid?: string;
  readonly size: number;
  /** Segment types: "linear", "striped", "thin", … */
  readonly kinds: readonly string[];
  /** Why it cannot be read, when it cannot: then `open` throws the same. */
  readonly unreadable?: string;
  open(): BlockSource;
}

/** Passphrases and key files the user gave, asked for by device or UUID. */
export interface KeyRing {
  for(device: string, uuid: string): Iterable<Uint8Array>;
}
export const noKeys: KeyRing = { for: () => [] };
