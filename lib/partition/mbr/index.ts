import { type BlockSource, readAt, readUpTo } from '../../block/source.js';
import { GuestError, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { latin1 } from '../../core/text.js';
import type { Partition, PartitionScheme, PartitionTable } from '../scheme.js';
import { Entry, EXTENDED, SIGNATURE_OFFSET, TABLE_OFFSET } from './structs.js';

interface Slot {
  readonly status: number;
  readonly type: number;
  readonly first: number;
  readonly count: number;
}
const slots = (sector: Uint8Array): readonly Slot[] =>
  [0, 1, 2, 3].map((i) => {
    const e = Entry.at(sector, TABLE_OFFSET + i * Entry.size);
    return { status: e.status, type: e.type, first: e.firstSector, count: e.sectors };
  });
const hasSignature = (sector: Uint8Array) => sector.length >= 512 && sector[510] === 0x55 && sector[511] === 0xaa;

/** A FAT or NTFS boot sector carries 55 AA too, but what stands in the table's place is boot code. */
function isBootSector(b: Uint8Array): boolean {
  if (b[0] !== 0xeb && b[0] !== 0xe9) return false;
  const oem = latin1(b.subarray(3, 11));
  if (oem.startsWith('NTFS') || oem === 'EXFAT   ' || oem.startsWith('-FVE-FS-')) return true;
  const fat = latin1(b.subarray(54, 59));
  const fat32 = latin1(b.subarray(82, 87));
  const sector = b[11]! | (b[12]! << 8);
  return [512, 1024, 2048, 4096].includes(sector) && (fat.startsWith('FAT') || fat32.startsWith('FAT'));
}

const hexByte = (n: number) => n.toString(16).padStart(2, '0');

export const mbr: PartitionScheme = {
  name: 'mbr',

  probe(disk): boolean {
    const b = readUpTo(disk, 0, 512);
    if (!hasSignature(b)) return false;
    const s = slots(b);
    if (s.some((x) => x.status !== 0 && x.status !== 0x80)) return false;
    const total = Math.floor(disk.size / disk.sectorSize);
    const used = s.filter((x) => x.type !== 0 && x.count > 0);
    if (used.length === 0) return false;
    if (isBootSector(b) && used.some((x) => x.first === 0 || x.first >= total)) return false;
    return used.some((x) => x.first > 0 && x.first < total);
  },

  read(disk): PartitionTable {
    const sector = readAt(disk, 0, 512);
    if (!hasSignature(sector)) throw new GuestError('wrong-format', 'no 0x55aa signature at 0x1fe');
    const unit = disk.sectorSize;
    const id = new DataView(sector.buffer).getUint32(SIGNATURE_OFFSET, true).toString(16).padStart(8, '0');
    const problems: string[] = [];
    const partitions: Partition[] = [];
    const partuuid = (n: number) => `${id}-${hexByte(n)}`;
    const total = Math.floor(disk.size / unit);
    slots(sector).forEach((s, i) => {
      if (s.type === 0 || s.count === 0) return;
      const extended = EXTENDED.includes(s.type);
      const p = clip(i + 1, s.first, s.count, total, problems);
      if (p === undefined) return;
      partitions.push({
        number: i + 1,
        start: p.first * unit,
        size: p.count * unit,
        type: hexByte(s.type),
        id: partuuid(i + 1),
        bootable: s.status === 0x80,
        role: extended ? 'extended' : 'primary',
      });
    });
    let next = 5;
    for (const container of partitions.filter((p) => p.role === 'extended')) {
      for (const l of logicals(disk, container, problems)) {
        if (partitions.length >= limits.partitions) {
          problems.push(`more than ${limits.partitions} partitions; the rest is not listed`);
          break;
        }
        const number = next++;
        const p = clip(number, l.first, l.count, total, problems);
        if (p === undefined) continue;
        partitions.push({
          number,
          start: p.first * unit,
          size: p.count * unit,
          type: hexByte(l.type),
          id: partuuid(number),
          bootable: l.status === 0x80,
          role: 'logical',
        });
      }
    }
    return { scheme: 'mbr', id, sectorSize: unit, partitions, problems };
  },
};

/** The part of a partition that lies on the disk; undefined and a problem when none does. */
function clip(
  number: number,
  first: number,
  count: number,
  total: number,
  problems: string[],
): { first: number; count: number } | undefined {
  if (first + count <= total && first > 0) return { first, count };
  problems.push(`partition ${number} spans sectors ${first} to ${first + count - 1}, outside the disk of ${total} sectors`);
  return first > 0 && first < total ? { first, count: total - first } : undefined;
}

/**
 * The chain of extended boot records: in each, data partitions count from the record itself, the link to the next
 * record from the start of the container.  A record met twice ends the chain.
 */
function* logicals(disk: BlockSource, container: Partition, problems: string[]): Generator<Slot> {
  const unit = disk.sectorSize;
  const base = container.start / unit;
  const seen = new Set<number>();
  let at = base;
  while (at > 0 && seen.size < limits.partitions) {
    if (seen.has(at)) {
      problems.push(`the chain of logical partitions returns to sector ${at}; it ends there`);
      return;
    }
    seen.add(at);
    const sector = readUpTo(disk, at * unit, 512);
    if (!hasSignature(sector)) {
      problems.push(`no extended boot record at ${hex(at * unit)}; logical partitions from there on are lost`);
      return;
    }
    let link: number | undefined;
    for (const s of slots(sector)) {
      if (s.count === 0 || s.type === 0) continue;
      if (EXTENDED.includes(s.type)) link ??= base + s.first;
      else yield { ...s, first: at + s.first };
    }
    if (link === undefined) return;
    at = link;
  }
}
