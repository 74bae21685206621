import { type BlockSource, readAt } from '../../block/source.js';
import { alignUp, equalBytes, isZero } from '../../core/bytes.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import type { Headers } from './header.js';
import { checksumOf, DATA, DESC, LOG_SECTOR, LOGE, LogData, LogDescriptor, LogEntry, MIB, ZERO } from './structs.js';

/** Writers use 1 MiB; far above this the log is not one. */
const MAX_LOG = 512 * MIB;
/** Bytes a replay may change: a log of 4 KiB metadata sectors stays far below, a hostile zero descriptor does not. */
const MAX_REPLAY = 1024 * MIB;

export type Change =
  | { readonly kind: 'data'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number };

export interface Replay {
  /** In the order they must be applied. */
  readonly changes: readonly Change[];
  /** Bytes the file must have before, and gets, by the replay. */
  readonly flushedSize: number;
  readonly lastSize: number;
}

interface Entry {
  readonly at: number;
  readonly length: number;
  readonly tail: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/** The pending log, or undefined when there is none. */
export function readLog(file: BlockSource, headers: Headers): Replay | undefined {
  const { logGuid, logLength, logOffset, logVersion } = headers.fields;
  if (isZero(logGuid)) return undefined;
  if (logVersion !== 0) throw unsupported(`${file.label}: VHDX log version ${logVersion} is not supported (0 is)`);
  if (logLength === 0 || logLength % MIB !== 0 || logOffset < MIB || logOffset % MIB !== 0 || logLength > MAX_LOG)
    throw corrupt(
      `${file.label}: VHDX log of ${hex(logLength)} bytes at ${hex(logOffset)} is not in whole MiB (at most ${MAX_LOG})`,
    );
  const log = readAt(file, logOffset, logLength);
  const active = findActive(log, logGuid);
  if (active === undefined)
    throw corrupt(`${file.label}: the header names a log to be replayed, but no valid sequence of entries is in it`);
  const changes: Change[] = [];
  let bytes = 0;
  const tail = active.findIndex((e) => e.at === active.at(-1)!.tail);
  for (const e of active.slice(tail))
    for (const c of changesOf(e, file.label)) {
      bytes += c.kind === 'data' ? c.bytes.length : c.length;
      if (bytes > MAX_REPLAY) throw unsupported(`${file.label}: the VHDX log changes more than ${MAX_REPLAY} bytes`);
      changes.push(c);
    }
  const last = LogEntry.at(active.at(-1)!.bytes);
  return { changes, flushedSize: last.flushedFileOffset, lastSize: last.lastFileOffset };
}

/** The valid sequence with the highest sequence number (MS-VHDX 2.3.3). */
function findActive(log: Uint8Array, guid: Uint8Array): Entry[] | undefined {
  // Entries that lie about their length must not make us sum the whole log again at every sector.
  const budget = { bytes: 4 * log.length };
  let best: Entry[] | undefined;
  for (let at = 0; at < log.length; ) {
    const sequence = sequenceAt(log, at, guid, budget);
    const last = sequence.at(-1);
    if (last !== undefined && sequence.some((e) => e.at === last.tail) && last.sequence > (best?.at(-1)?.sequence ?? 0))
      best = sequence;
    // What lies behind a sequence was read already; a sequence that wraps ends the search.
    const next = last === undefined ? at + LOG_SECTOR : last.at + last.length;
    at = next > at ? next : log.length;
  }
  return best;
}

type Budget = { bytes: number };
function sequenceAt(log: Uint8Array, start: number, guid: Uint8Array, budget: Budget): Entry[] {
  const entries: Entry[] = [];
  let total = 0;
  for (let at = start; total < log.length; at = (at + entries.at(-1)!.length) % log.length) {
    const e = entryAt(log, at, guid, log.length - total, budget);
    if (e === undefined || (entries.length > 0 && e.sequence !== entries.at(-1)!.sequence + 1)) break;
    entries.push(e);
    total += e.length;
  }
  return entries;
}

function entryAt(log: Uint8Array, at: number, guid: Uint8Array, room: number, budget: Budget): Entry | undefined {
  const head = LogEntry.at(log, at);
  if (head.signature !== LOGE || !equalBytes(head.logGuid, guid)) return undefined;
  const length = head.entryLength;
  if (length === 0 || length % LOG_SECTOR !== 0 || length > room || head.tail % LOG_SECTOR !== 0) return undefined;
  budget.bytes -= length;
  if (budget.bytes < 0) return undefined;
  let bytes = log.subarray(at, at + length);
  if (bytes.length < length) {
    // The log is a ring.
    const joined = new Uint8Array(length);
    joined.set(bytes);
    joined.set(log.subarray(0, length - bytes.length), bytes.length);
    bytes = joined;
  }
  let sequence: number;
  try {
    sequence = head.sequenceNumber;
  } catch (e) {
    if (e instanceof GuestError) return undefined;
    throw e;
  }
  if (sequence === 0 || checksumOf(bytes) !== head.checksum) return undefined;
  const descriptors = alignUp(LogEntry.size + head.descriptorCount * LogDescriptor.size, LOG_SECTOR);
  if (descriptors > length) return undefined;
  return { at, length, tail: head.tail, sequence, bytes };
}

function* changesOf(e: Entry, label: string): Generator<Change> {
  const count = LogEntry.at(e.bytes).descriptorCount;
  let sector = alignUp(LogEntry.size + count * LogDescriptor.size, LOG_SECTOR);
  for (let i = 0; i < count; i++) {
    const d = LogDescriptor.at(e.bytes, LogEntry.size + i * LogDescriptor.size);
    const bad = (what: string) => corrupt(`${label}: VHDX log entry ${e.sequence}, descriptor ${i}: ${what}`);
    if (d.sequenceNumber !== e.sequence) throw bad(`sequence number ${d.sequenceNumber}`);
    if (d.fileOffset % LOG_SECTOR !== 0) throw bad(`file offset ${hex(d.fileOffset)} is not a multiple of 4096`);
    if (d.signature === ZERO) {
      if (d.zeroLength % LOG_SECTOR !== 0) throw bad(`zero length ${hex(d.zeroLength)} is not a multiple of 4096`);
      yield { kind: 'zero', offset: d.fileOffset, length: d.zeroLength };
    } else if (d.signature === DESC) {
      if (sector + LOG_SECTOR > e.bytes.length) throw bad('its data sector is missing');
      const s = LogData.at(e.bytes, sector);
      if (s.signature !== DATA || s.sequenceHigh * 0x100000000 + s.sequenceLow !== e.sequence)
        throw bad('its data sector belongs to another entry');
      const bytes = new Uint8Array(LOG_SECTOR);
      bytes.set(d.leading, 0);
      bytes.set(s.data, 8);
      bytes.set(d.trailing, 4092);
      sector += LOG_SECTOR;
      yield { kind: 'data', offset: d.fileOffset, bytes };
    } else throw bad(`signature ${hex(d.signature)}`);
  }
}
