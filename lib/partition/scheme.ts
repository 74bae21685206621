import type { BlockSource } from '../block/source.js';

/** gpt, mbr, …: reading and writing are two pure functions around plain data. */
export interface PartitionScheme {
  readonly name: 'gpt' | 'mbr' | 'bsd' | 'apm' | 'sun';
  /** Cheap; never throws. */
  probe(disk: BlockSource): boolean;
  read(disk: BlockSource): PartitionTable;
  /** The sectors to write for `table`, so that a change can be shown, tested and undone before it touches a disk. */
  encode?(table: PartitionTable, disk: { readonly size: number; readonly sectorSize: number }): readonly Patch[];
}

export interface PartitionTable {
  readonly scheme: PartitionScheme['name'];
  /** Disk GUID, or the MBR disk signature as 8 hex digits. */
  readonly id: string;
  readonly sectorSize: number;
  /** In order of number. */
  readonly partitions: readonly Partition[];
  /** Damage that did not stop the reading: "primary GPT header CRC is …; the backup was used". */
  readonly problems: readonly string[];
}

export interface Partition {
  /** As Linux numbers them: /dev/sdaN. */
  readonly number: number;
  /** Bytes. */
  readonly start: number;
  readonly size: number;
  /** GUID in upper case, or the MBR type as two hex digits ("83"). */
  readonly type: string;
  /** Unique partition GUID; for MBR "SIGNATURE-NN" as the kernel's PARTUUID. */
  readonly id?: string;
  readonly name?: string;
  readonly bootable?: boolean;
  readonly attributes?: bigint;
  /** MBR only: the extended container itself is listed but holds no data of its own. */
  readonly role?: 'primary' | 'extended' | 'logical';
}

export interface Patch {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly what: string;
}
