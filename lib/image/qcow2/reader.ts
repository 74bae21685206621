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
      case COMPRESSED:
        part.set(compressedCluster(s, run).subarray(at % s.clusterSize, (at % s.clusterSize) + part.length));
        break;
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
