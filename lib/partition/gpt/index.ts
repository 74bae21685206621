import { type BlockSource, readAt, readUpTo } from '../../block/source.js';
import { guidText, isZero } from '../../core/bytes.js';
import { crc32 } from '../../core/checksum.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { limits } from '../../core/limits.js';
import { latin1, utf16 } from '../../core/text.js';
import type { Partition, PartitionScheme, PartitionTable } from '../scheme.js';
import { Entry, Header, SIGNATURE } from './structs.js';

/** A header with its entries, both with good checksums. */
interface Table {
  readonly id: string;
  readonly alternateLba: number;
  readonly entries: Uint8Array;
  readonly entrySize: number;
  readonly entryCount: number;
}

/** Bytes of the largest table of entries that is read: 16384 entries of 128 bytes. */
const MAX_ENTRY_BYTES = 2 << 20;

/** Reads and checks the header at `lba`; throws corrupt saying which value is wrong. */
function readTable(disk: BlockSource, lba: number, sectorSize: number): Table {
  const at = lba * sectorSize;
  const sector = readAt(disk, at, sectorSize);
  const h = Header.at(sector);
  if (latin1(h.signature) !== SIGNATURE) throw new GuestError('wrong-format', `no "${SIGNATURE}" at ${hex(at)}`, { offset: at });
  const size = h.headerSize;
  if (size < Header.size || size > sectorSize)
    throw corrupt(`GPT header at ${hex(at)} says it is ${size} bytes long (allowed 92 to ${sectorSize})`, { offset: at });
  const copy = sector.slice(0, size);
  copy.fill(0, 16, 20);
  const crc = crc32(copy);
  if (crc !== h.headerCrc)
    throw corrupt(`GPT header CRC at ${hex(at)} is ${hex(h.headerCrc)}, expected ${hex(crc)}`, { offset: at });
  const { entrySize, entryCount } = h;
  if (entrySize < Entry.size || entrySize % 8 !== 0 || entryCount * entrySize > MAX_ENTRY_BYTES)
    throw corrupt(`GPT header at ${hex(at)} has ${entryCount} entries of ${entrySize} bytes`, { offset: at });
  const entriesAt = h.entriesLba * sectorSize;
  const entries = readAt(disk, entriesAt, entryCount * entrySize);
  const entriesCrc = crc32(entries);
  if (entriesCrc !== h.entriesCrc)
    throw corrupt(`GPT partition entries at ${hex(entriesAt)} have CRC ${hex(entriesCrc)}, expected ${hex(h.entriesCrc)}`, {
      offset: entriesAt,
    });
  return { id: guidText(h.diskGuid), alternateLba: h.alternateLba, entries, entrySize, entryCount };
}

/** The sector size that this table was written for: the disk's, or the other one when the signature is there. */
function tableSectorSize(disk: BlockSource): number | undefined {
  for (const size of disk.sectorSize === 4096 ? [4096, 512] : [512, 4096])
    if (latin1(readUpTo(disk, size, 8)) === SIGNATURE) return size;
  // The primary header is gone: a protective MBR entry (type EE) and a backup header in the last sector still tell.
  const mbr = readUpTo(disk, 0, 512);
  if (mbr.length < 512 || mbr[510] !== 0x55 || mbr[511] !== 0xaa) return undefined;
  if (![0, 1, 2, 3].some((i) => mbr[446 + 16 * i + 4] === 0xee)) return undefined;
  for (const size of [disk.sectorSize, 512, 4096]) {
    const last = (Math.floor(disk.size / size) - 1) * size;
    if (last > 0 && latin1(readUpTo(disk, last, 8)) === SIGNATURE) return size;
  }
  return undefined;
}

export const gpt: PartitionScheme = {
  name: 'gpt',

  probe: (disk) => tableSectorSize(disk) !== undefined,

  read(disk): PartitionTable {
    const sectorSize = tableSectorSize(disk);
    if (sectorSize === undefined) throw new GuestError('wrong-format', 'no GPT header');
    const problems: string[] = [];
    if (sectorSize !== disk.sectorSize)
      problems.push(`the GPT was made for ${sectorSize}-byte sectors, the disk has ${disk.sectorSize}-byte ones`);
    const lastLba = Math.floor(disk.size / sectorSize) - 1;
    let table: Table;
    try {
      table = readTable(disk, 1, sectorSize);
      if (table.alternateLba !== lastLba)
        problems.push(`the backup GPT is said to be at sector ${table.alternateLba}, the disk ends at ${lastLba}`);
      try {
        readTable(disk, Math.min(table.alternateLba, lastLba), sectorSize);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
        problems.push(`backup: ${e.message}`);
      }
    } catch (primary) {
      if (!(primary instanceof GuestError) || primary.code === 'io') throw primary;
      try {
        table = readTable(disk, lastLba, sectorSize);
      } catch (backup) {
        if (!(backup instanceof GuestError)) throw backup;
        throw corrupt(`both GPT headers are damaged (primary: ${primary.message}; backup: ${backup.message})`, {
          offset: sectorSize,
        });
      }
      problems.push(`primary: ${primary.message}; the backup was used`);
    }
    return { scheme: 'gpt', id: table.id, sectorSize, partitions: partitionsOf(table, disk, sectorSize, problems), problems };
  },
};

function partitionsOf(table: Table, disk: BlockSource, sectorSize: number, problems: string[]): readonly Partition[] {
  const partitions: Partition[] = [];
  for (let i = 0; i < table.entryCount; i++) {
    const e = Entry.at(table.entries, i * table.entrySize);
    if (isZero(e.type)) continue;
    if (partitions.length >= limits.partitions) {
      problems.push(`more than ${limits.partitions} partitions; the rest is not listed`);
      break;
    }
    const first = e.firstLba;
    const last = e.lastLba;
    if (first > last || last * sectorSize >= disk.size || first === 0) {
      problems.push(
        `partition ${i + 1} spans sectors ${first} to ${last}, outside the disk of ${Math.floor(disk.size / sectorSize)} sectors`,
      );
      // A disk image that was cut short: what is left of the partition may still be worth reading.
      if (first > last || first === 0 || first * sectorSize >= disk.size) continue;
    }
    const attributes = e.attributes;
    const start = first * sectorSize;
    partitions.push({
      number: i + 1,
      start,
      size: Math.min((last - first + 1) * sectorSize, Math.floor(disk.size / sectorSize) * sectorSize - start),
      type: guidText(e.type),
      id: guidText(e.id),
      name: utf16(e.name),
      bootable: (attributes & 4n) !== 0n,
      attributes,
      role: 'primary',
    });
  }
  return partitions;
}
