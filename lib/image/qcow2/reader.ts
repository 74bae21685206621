import { codecAddon } from '../../addon/codec.js';
import { type BlockSource, checkRange, type Run } from '../../block/source.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { decompressCluster } from './compress.js';
import { COMPRESSED, DATA, type Found, find, UNALLOCATED, UNALLOCATED_ALLOC } from './lookup.js';
import type { State } from './state.js';
import type { Table } from './table.js';

/** Reads the disk that `l1` describes: the active one, or a snapshot's. */
export function readGuest(s: State, l1: Table, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const at = offset + done;
    const run = find(s, l1, at, into.length - done);
    const part = done === 0 && run.length === into.length ? into : into.subarray(done, done + run.length);
    switch (run.kind) {
      case DATA:
        readData(s, part, run.host, at);
        break;
      case COMPRESSED: {
        const many = readCompressedRun(s, l1, into.subarray(done), at, run);
        if (many > 0) {
          done += many;
          continue;
        }
        part.set(compressedCluster(s, run).subarray(at % s.clusterSize, (at % s.clusterSize) + part.length));
        break;
      }
      case UNALLOCATED:
      case UNALLOCATED_ALLOC:
        readBacking(s.backing, part, at);
        break;
      default:
        part.fill(0);
    }
    done += run.length;
  }
}

/** Clusters decompressed by one call, in bytes of guest. */
const RUN_BYTES = 8 << 20;

/**
 * Whole compressed clusters in a row, decompressed on all cores; the bytes done, 0 where there is no such row (one
 * cluster, a part of one, or no addon).
 */
function readCompressedRun(s: State, l1: Table, into: Uint8Array, at: number, first: Found): number {
  const cs = s.clusterSize;
  const limit = Math.min(into.length, RUN_BYTES);
  if (at % cs !== 0 || limit < 2 * cs) return 0;
  const codec = codecAddon();
  if (codec === undefined || (s.compressionType === 1 && !codec.zstd)) return 0;
  const runs = [first];
  for (let done = cs; done + cs <= limit; done += cs) {
    const run = find(s, l1, at + done, cs);
    if (run.kind !== COMPRESSED || run.length !== cs) break;
    runs.push(run);
  }
  if (runs.length < 2) return 0;
  // Clusters that were written in order lie in order: those are read at once.
  const plan = new Float64Array(runs.length * 5);
  const reads: { host: number; length: number; at: number }[] = [];
  let total = 0;
  for (const [i, run] of runs.entries()) {
    const length = Math.min(run.compressedBytes, s.file.size - run.host);
    if (length <= 0 || length > 2 * cs + 512) return 0;
    const last = reads[reads.length - 1];
    if (last !== undefined && run.host >= last.host && run.host <= last.host + last.length) {
      const more = Math.max(0, run.host + length - last.host - last.length);
      last.length += more;
      total += more;
    } else {
      reads.push({ host: run.host, length, at: total });
      total += length;
    }
    const read = reads[reads.length - 1]!;
    plan.set([read.at + run.host - read.host, length, i * cs, cs, 0], i * 5);
  }
  const packed = new Uint8Array(total);
  for (const r of reads) s.file.read(packed.subarray(r.at, r.at + r.length), r.host);
  codec.decompress(s.compressionType === 1 ? 'zstd' : 'deflate', packed, into, plan);
  // A cluster that is damaged is left to the slow way, which says what is wrong.
  for (let i = 0; i < runs.length; i++) if (plan[i * 5 + 4] !== cs) return i * cs;
  return runs.length * cs;
}

/** A backing file that is shorter goes on as zeroes. */
function readBacking(backing: BlockSource | undefined, into: Uint8Array, offset: number): void {
  const inside = backing === undefined ? 0 : Math.max(0, Math.min(into.length, backing.size - offset));
  if (inside > 0) backing!.read(inside === into.length ? into : into.subarray(0, inside), offset);
  if (inside < into.length) into.fill(0, inside);
}

/** Bytes of a data cluster, decrypted. */
function readData(s: State, into: Uint8Array, host: number, guest: number): void {
  if (s.cipher === undefined) return readHost(s, into, host);
  const before = host % 512;
  const sectors = Math.ceil((before + into.length) / 512);
  const aligned = before === 0 && into.length === sectors * 512;
  const buffer = aligned ? into : new Uint8Array(sectors * 512);
  readHost(s, buffer, host - before);
  s.cipher.decrypt(buffer, ((s.cipherByGuest ? guest : host) - before) / 512);
  if (!aligned) into.set(buffer.subarray(before, before + into.length));
}

/** The last cluster of a file need not be whole on disk; one that begins past the end is damage. */
function readHost(s: State, into: Uint8Array, host: number): void {
  const file = s.dataFile;
  const present = Math.min(into.length, file.size - host);
  if (present === into.length) return file.read(into, host);
  if (!s.hasDataFile && present <= -s.clusterSize)
    throw corrupt(`data cluster at ${hex(host)} is past the end of the file (size ${hex(file.size)}); the image is truncated`, {
      offset: host,
    });
  if (present > 0) file.read(into.subarray(0, present), host);
  into.fill(0, Math.max(0, present));
}

export function compressedCluster(s: State, run: Found): Uint8Array {
  const known = s.decompressed.get(run.host);
  if (known !== undefined) return known;
  const length = Math.min(run.compressedBytes, s.file.size - run.host);
  if (length <= 0)
    throw corrupt(`compressed cluster at ${hex(run.host)} is past the end of the file (size ${hex(s.file.size)})`, {
      offset: run.host,
    });
  if (length > 2 * s.clusterSize + 512)
    throw corrupt(`compressed cluster at ${hex(run.host)} has ${length} bytes`, { offset: run.host });
  const data = new Uint8Array(length);
  s.file.read(data, run.host);
  const cluster = decompressCluster(s.compressionType, data, s.clusterSize, run.host);
  s.decompressed.set(run.host, cluster, s.clusterSize);
  return cluster;
}

export function mapGuest(s: State, l1: Table, offset: number, length: number): Run {
  const run = find(s, l1, offset, length);
  switch (run.kind) {
    case DATA:
      return s.cipher !== undefined || run.host + run.length > s.dataFile.size
        ? { kind: 'computed', length: run.length }
        : s.dataFile.map(run.host, run.length);
    case COMPRESSED:
      return { kind: 'computed', length: run.length };
    case UNALLOCATED:
    case UNALLOCATED_ALLOC: {
      const inside = s.backing === undefined ? 0 : s.backing.size - offset;
      return inside > 0 ? s.backing!.map(offset, Math.min(run.length, inside)) : { kind: 'zero', length: run.length };
    }
    default:
      return { kind: 'zero', length: run.length };
  }
}

/** An internal snapshot's disk, read without applying it. */
export class SnapshotView implements BlockSource {
  readonly sectorSize = 512;
  #open = true;
  constructor(
    private readonly state: State,
    private readonly l1: Table,
    readonly size: number,
    readonly label: string,
  ) {}
  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    if (!this.#open) throw new GuestError('usage', `${this.label} is closed`);
    readGuest(this.state, this.l1, into, offset);
  }
  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    return mapGuest(this.state, this.l1, offset, length);
  }
  close(): void {
    this.#open = false;
  }
}
