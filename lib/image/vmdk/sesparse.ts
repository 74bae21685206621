import { type BlockSource, readAt } from '../../block/source.js';
import { corrupt, hex, unsupported } from '../../core/errors.js';
import type { Piece } from '../mapped.js';
import { EntryTable, TableCache } from '../tables.js';
import type { DiskExtent } from './extent.js';
import { SECTOR, SESPARSE_MAGIC, SESPARSE_VOLATILE_MAGIC, SeSparseHeader, SeSparseVolatile, sectors } from './structs.js';

const LOOK_AHEAD = 65536;
/** Grain table entry types, in the upper four bits. */
const UNMAPPED = 1;
const ZERO = 2;
const DATA = 3;

/** SESPARSE: what ESX 6.5 and later write for snapshots.  64-bit tables, 4 KiB grains; read only. */
export class SeSparseExtent implements DiskExtent {
  readonly format = 'SESPARSE';
  size: number;
  readonly grainBytes: number;
  readonly #perTable: number;
  readonly #directory: EntryTable;
  readonly #tables: TableCache;
  readonly #tablesAt: number;
  readonly #tableCount: number;
  readonly #grainsAt: number;
  #lastTable = -1;
  #last: EntryTable | undefined;
  #low = 0;

  constructor(readonly file: BlockSource) {
    const label = file.label;
    const h = SeSparseHeader.at(readAt(file, 0, SECTOR));
    if (h.magic !== SESPARSE_MAGIC) throw corrupt(`${label}: SESPARSE magic is ${hex(h.magic)}, expected ${hex(SESPARSE_MAGIC)}`);
    if (h.version !== 0x200000001n)
      throw unsupported(`${label}: SESPARSE version ${hex(h.version)} is not supported (0x200000001 is)`);
    if (h.grainSize !== 8 || h.grainTableSize !== 64)
      throw unsupported(
        `${label}: SESPARSE grain of ${h.grainSize} sectors and table of ${h.grainTableSize} are not supported (8 and 64 are)`,
      );
    const v = SeSparseVolatile.at(readAt(file, sectors(h.volatileHeaderOffset, 'volatile header offset', label), SECTOR));
    if (v.magic !== SESPARSE_VOLATILE_MAGIC)
      throw corrupt(`${label}: SESPARSE volatile header magic is ${hex(v.magic)}, expected ${hex(SESPARSE_VOLATILE_MAGIC)}`);
    if (v.replayJournal !== 0)
      throw unsupported(`${label}: SESPARSE journal must be replayed first (the disk was not closed; open it once in ESX)`);
    this.size = sectors(h.capacity, 'capacity', label);
    this.grainBytes = h.grainSize * SECTOR;
    this.#perTable = (h.grainTableSize * SECTOR) / 8;
    const need = Math.ceil(this.size / (this.grainBytes * this.#perTable));
    const directoryBytes = sectors(h.grainDirSize, 'grain directory size', label);
    if (need * 8 > directoryBytes)
      throw corrupt(`${label}: grain directory of ${directoryBytes} bytes is too short for ${need} tables`);
    this.#tables = new TableCache(file, 'SESPARSE table');
    this.#directory = new EntryTable(this.#tables, sectors(h.grainDirOffset, 'grain directory offset', label), need, 8, true);
    this.#tablesAt = sectors(h.grainTablesOffset, 'grain tables offset', label);
    this.#tableCount = Math.floor(h.grainTablesSize / h.grainTableSize);
    this.#grainsAt = sectors(h.grainsOffset, 'grains offset', label);
  }

  #table(t: number): EntryTable | undefined {
    if (t === this.#lastTable) return this.#last;
    const low = this.#directory.u32(t);
    const high = this.#directory.high(t);
    let table: EntryTable | undefined;
    if (low !== 0 || high !== 0) {
      if (high !== 0x10000000 || low >= this.#tableCount)
        throw corrupt(
          `${this.file.label}: SESPARSE directory entry ${t} is ${hex((BigInt(high) << 32n) | BigInt(low))} (there are ${this.#tableCount} tables)`,
        );
      table = new EntryTable(this.#tables, this.#tablesAt + low * this.#perTable * 8, this.#perTable, 8, true);
    }
    this.#lastTable = t;
    this.#last = table;
    return table;
  }

  /** The entry's type; the grain's number is left in `#low`. */
  #entry(grain: number): number {
    const t = Math.floor(grain / this.#perTable);
    const table = this.#table(t);
    if (table === undefined) return 0;
    const i = grain - t * this.#perTable;
    const high = table.high(i);
    const low = table.u32(i);
    const type = high >>> 28;
    if (type > DATA || (type === 0 && (high !== 0 || low !== 0)))
      throw corrupt(`${this.file.label}: SESPARSE entry of grain ${grain} is ${hex((BigInt(high) << 32n) | BigInt(low))}`);
    // The number's lowest 12 bits are stored above its upper 48.
    this.#low = ((high >>> 16) & 0xfff) + ((high & 0xffff) * 0x100000000 + low) * 0x1000;
    return type;
  }

  locate(offset: number, length: number): Piece {
    const g = this.grainBytes;
    let grain = Math.floor(offset / g);
    const inside = offset - grain * g;
    const type = this.#entry(grain);
    const first = this.#low;
    let n = g - inside;
    for (let steps = 1; n < length && steps < LOOK_AHEAD; steps++) {
      grain++;
      if (type === 0 && grain % this.#perTable === 0 && this.#table(grain / this.#perTable) === undefined) {
        n += g * this.#perTable;
        grain += this.#perTable - 1;
        continue;
      }
      if (this.#entry(grain) !== type || (type === DATA && this.#low !== first + steps)) break;
      n += g;
    }
    const kind = type === DATA ? 'data' : type === ZERO || type === UNMAPPED ? 'zero' : 'absent';
    const at = this.#grainsAt + first * g + inside;
    if (kind === 'data' && !Number.isSafeInteger(at))
      throw corrupt(`${this.file.label}: SESPARSE grain number ${hex(first)} is too large`);
    return { kind, length: Math.min(n, length), offset: kind === 'data' ? at : 0, source: this.file };
  }
}
