import { readAt } from '../../block/source.js';
import { corrupt, type GuestError } from '../../core/errors.js';
import { struct, u8, u32 } from '../../core/struct.js';
import type { Volume } from './volume.js';

/** The log is counted in sectors of 512 bytes, whatever the device's are. */
const SECTOR = 512;
const RECORD_MAGIC = 0xfeedbabe;
/** Bytes of a record that one header block has room to describe. */
const HEADER_CYCLES = 32768;
const VERSION_2 = 2;
const UNMOUNT = 0x20;
/** Eight buffers of 256 KiB may be under way at once, and end up on disk in any order. */
const IN_FLIGHT = (8 * 262144) / SECTOR;
/** Enough for a clean log's last record. */
const GLANCE = 128;
const SECTORS_MAX = 2 ** 31 / SECTOR;

const RecordHeader = struct('xfs log record', 'be', 328, {
  magic: u32(0),
  cycle: u32(4),
  version: u32(8),
  length: u32(12),
  tailCycle: u32(24),
  tailBlock: u32(28),
  operations: u32(40),
  size: u32(320),
});
const OperationHeader = struct('xfs log operation', 'be', 12, { flags: u8(9) });

export interface LogState {
  readonly clean: boolean;
  /** Bytes from the oldest change that may not be in its place to the end of the log. */
  readonly bytes: number;
}

/** Whether the filesystem was unmounted: where the log ends, and what its last record is. */
export function logState(volume: Volume): LogState {
  const { sb } = volume;
  const at = volume.offsetOf(sb.logStart, sb.logBlocks, 'log');
  const sectors = Math.floor((sb.logBlocks * sb.blockSize) / SECTOR);
  if (sectors < 2 || sectors > SECTORS_MAX) throw corrupt(`xfs: log of ${sb.logBlocks} blocks`, { offset: at });
  return new Log(volume, at, sectors).state();
}

class Log {
  constructor(
    private readonly volume: Volume,
    private readonly at: number,
    private readonly sectors: number,
  ) {}

  state(): LogState {
    const guess = this.#head();
    if (guess === undefined) return { clean: true, bytes: 0 };
    // A clean log ends in an unmount record, written when nothing else was under way: a glance is enough.
    const glance = this.#before(guess, GLANCE);
    const quick = this.#lastRecord(glance);
    if (quick !== undefined && this.#isUnmount(glance, quick)) return { clean: true, bytes: 0 };
    const window = this.#before(guess, IN_FLIGHT);
    const end = settledEnd(window);
    const settled: Window = {
      bytes: window.bytes.subarray(0, end * SECTOR),
      end: this.#wrap(window.end - (window.bytes.length / SECTOR - end)),
    };
    const last = this.#lastRecord(settled);
    if (last === undefined) throw this.#bad('no record before its end');
    if (this.#isUnmount(settled, last)) return { clean: true, bytes: 0 };
    const tail = RecordHeader.at(settled.bytes, last * SECTOR).tailBlock;
    if (tail >= this.sectors) throw this.#bad(`its tail is said to be sector ${tail} of ${this.sectors}`);
    // Head and tail in one place: there is nothing between them.
    const bytes = this.#wrap(settled.end - tail) * SECTOR;
    return { clean: bytes === 0, bytes };
  }

  #bad(problem: string): GuestError {
    return corrupt(`xfs: the log: ${problem}`, { offset: this.at });
  }
  #wrap(sector: number): number {
    return ((sector % this.sectors) + this.sectors) % this.sectors;
  }

  /** The number of times the log had been round when a sector was written; 0 where it never was. */
  #cycle(sector: number): number {
    return cycleAt(this.volume.cache.view(this.at + sector * SECTOR, SECTOR), 0);
  }

  /** The sector that will be written next, as far as the cycles tell; undefined for a log nobody has written to. */
  #head(): number | undefined {
    const first = this.#cycle(0);
    if (first === 0) return undefined;
    const last = this.#cycle(this.sectors - 1);
    if (first === last) return 0;
    // Not yet full: the end of what is not zero.  Else the first sector of the cycle before.
    let lo = 1;
    let hi = this.sectors - 1;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.#cycle(mid) === last) hi = mid;
      else lo = mid + 1;
    }
    return lo;
  }

  /** The sectors before `head`, at most `count`, across the end of the log where need be. */
  #before(head: number, count: number): Window {
    const { source } = this.volume;
    const n = Math.min(count, this.sectors);
    const start = head - n;
    if (start >= 0) return { bytes: readAt(source, this.at + start * SECTOR, n * SECTOR), end: head };
    const bytes = new Uint8Array(n * SECTOR);
    source.read(bytes.subarray(0, -start * SECTOR), this.at + (this.sectors + start) * SECTOR);
    source.read(bytes.subarray(-start * SECTOR), this.at);
    return { bytes, end: head };
  }

  /** Which sector of the window holds the last record's header. */
  #lastRecord({ bytes }: Window): number | undefined {
    const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = bytes.length / SECTOR - 1; i >= 0; i--) if (d.getUint32(i * SECTOR) === RECORD_MAGIC) return i;
    return undefined;
  }

  /** True when the record at `i` says that the filesystem was unmounted, and reaches to the end of the window. */
  #isUnmount({ bytes }: Window, i: number): boolean {
    const h = RecordHeader.at(bytes, i * SECTOR);
    const headers = h.version & VERSION_2 ? Math.max(1, Math.ceil(h.size / HEADER_CYCLES)) : 1;
    const data = i + headers;
    if (h.operations !== 1 || data + Math.ceil(h.length / SECTOR) !== bytes.length / SECTOR) return false;
    return (data + 1) * SECTOR <= bytes.length && (OperationHeader.at(bytes, data * SECTOR).flags & UNMOUNT) !== 0;
  }
}

interface Window {
  readonly bytes: Uint8Array;
  /** The sector after the last. */
  readonly end: number;
}

/** A header begins with a magic number, its cycle is the next word; any other sector has the cycle in place of its first word. */
function cycleAt(b: Uint8Array, sector: number): number {
  const d = new DataView(b.buffer, b.byteOffset, b.length);
  const first = d.getUint32(sector * SECTOR);
  return first === RECORD_MAGIC ? d.getUint32(sector * SECTOR + 4) : first;
}

/**
 * The writes of several buffers may have reached the disk out of order: sectors of the cycle before that lie among the
 * newest ones were never written, and the log ends at the first of them.
 */
function settledEnd({ bytes }: Window): number {
  const n = bytes.length / SECTOR;
  const newest = cycleAt(bytes, n - 1);
  let i = n - 1;
  let end = n;
  // Going back: as long as the cycle is the newest or a gap in it.
  for (let gap = 0; i >= 0; i--) {
    const cycle = cycleAt(bytes, i);
    if (cycle === newest) {
      if (gap > 0) end = i + 1;
      gap = 0;
    } else gap++;
  }
  return end;
}
