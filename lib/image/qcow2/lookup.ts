import { corrupt, hex } from '../../core/errors.js';
import type { State } from './state.js';
import { COMPRESSED_FLAG, COPIED, ZERO_FLAG } from './structs.js';
import type { Table } from './table.js';

/** Kinds of (sub)clusters. */
export const UNALLOCATED = 0;
/** Reads as zeroes, no host cluster. */
export const ZERO = 1;
/** Reads as zeroes, a host cluster is reserved. */
export const ZERO_ALLOC = 2;
export const DATA = 3;
export const COMPRESSED = 4;
/** A subcluster that is not allocated, in a cluster that is. */
export const UNALLOCATED_ALLOC = 5;

/** A run of guest bytes of one kind.  `host`: file offset of its first byte; for compressed clusters where the cluster's data starts. */
export interface Found {
  readonly kind: number;
  readonly length: number;
  readonly host: number;
  /** Bytes of compressed data. */
  readonly compressedBytes: number;
}

/** The first run at `offset` of the disk that `l1` describes; runs end where their L2 table does, at the latest. */
export function find(s: State, l1: Table, offset: number, length: number): Found {
  const cs = s.clusterSize;
  const cluster = Math.floor(offset / cs);
  const l1Index = Math.floor(cluster / s.l2Entries);
  const tableSpan = cs * s.l2Entries;
  const l2Offset = l1Index < l1.entries ? l1.target(l1Index) : 0;
  if (l2Offset === 0) {
    let end = l1Index + 1;
    const last = Math.min(l1.entries, Math.ceil((offset + length) / tableSpan));
    while (end < last && l1.target(end) === 0) end++;
    return { kind: UNALLOCATED, length: Math.min(length, end * tableSpan - offset), host: -1, compressedBytes: 0 };
  }
  const table = s.l2.get(l2Offset);
  const index = cluster - l1Index * s.l2Entries;
  const inside = offset - cluster * cs;
  const room = Math.min(length, (l1Index + 1) * tableSpan - offset);
  return s.extended ? findSub(s, table, index, inside, room, offset) : findPlain(s, table, index, inside, room, offset);
}

function findPlain(s: State, t: Table, index: number, inside: number, length: number, guest: number): Found {
  const cs = s.clusterSize;
  const hi = t.hi(index);
  const lo = t.lo(index);
  const kind = plainKind(s, hi, lo);
  let got = cs - inside;
  if (kind === COMPRESSED) return { ...compressedAt(s, hi, lo), length: Math.min(length, got) };
  const host = kind === UNALLOCATED || kind === ZERO ? -1 : hostOf(s, hi, lo, guest - inside);
  let next = host + cs;
  while (got < length) {
    index++;
    const h = t.hi(index);
    const l = t.lo(index);
    if (plainKind(s, h, l) !== kind) break;
    if (host >= 0) {
      if (hostRaw(h, l) !== next) break;
      next += cs;
    }
    got += cs;
  }
  return { kind, length: Math.min(length, got), host: host < 0 ? -1 : host + inside, compressedBytes: 0 };
}

/** Kind of a standard (8-byte) entry. */
export function plainKind(s: State, hi: number, lo: number): number {
  if (hi & COMPRESSED_FLAG) return COMPRESSED;
  const hasHost = (hi & 0x00ffffff) !== 0 || (lo & 0xfffffe00) !== 0 || (s.hasDataFile && (hi & COPIED) !== 0);
  if (lo & ZERO_FLAG && s.header.version >= 3) return hasHost ? ZERO_ALLOC : ZERO;
  return hasHost ? DATA : UNALLOCATED;
}

export const hostRaw = (hi: number, lo: number): number => (hi & 0x00ffffff) * 0x100000000 + ((lo & 0xfffffe00) >>> 0);

/** The host cluster of an entry, checked. */
function hostOf(s: State, hi: number, lo: number, guest: number): number {
  const host = hostRaw(hi, lo);
  if (host % s.clusterSize !== 0)
    throw corrupt(`cluster of guest offset ${hex(guest)} is at ${hex(host)}, not aligned to ${s.clusterSize} bytes`, {
      offset: host,
    });
  if (s.hasDataFile && host !== guest)
    throw corrupt(`cluster of guest offset ${hex(guest)} is at ${hex(host)} of the external data file (must be the same)`, {
      offset: host,
    });
  return host;
}

/** Where a compressed entry's data lies. */
export function compressedAt(s: State, hi: number, lo: number): { kind: number; host: number; compressedBytes: number } {
  const shift = 38 - s.header.clusterBits;
  const bits = hi & 0x3fffffff;
  const host = (bits & ((1 << shift) - 1)) * 0x100000000 + lo;
  const sectors = (bits >>> shift) + 1;
  return { kind: COMPRESSED, host, compressedBytes: sectors * 512 - (host % 512) };
}

function findSub(s: State, t: Table, index: number, inside: number, length: number, guest: number): Found {
  const sub = s.subclusterSize;
  const hi = t.hi(index * 2);
  const lo = t.lo(index * 2);
  if (hi & COMPRESSED_FLAG) return { ...compressedAt(s, hi, lo), length: Math.min(length, s.clusterSize - inside) };
  let n = Math.floor(inside / sub);
  const kind = subKind(s, t, index, n, guest);
  const host = kind === DATA || kind === ZERO_ALLOC || kind === UNALLOCATED_ALLOC ? hostOf(s, hi, lo, guest - inside) : -1;
  let got = sub - (inside - n * sub);
  let cluster = host;
  while (got < length) {
    if (++n === 32) {
      n = 0;
      index++;
      if (t.hi(index * 2) & COMPRESSED_FLAG) break;
      if (host >= 0 && hostRaw(t.hi(index * 2), t.lo(index * 2)) !== (cluster += s.clusterSize)) break;
    }
    if (subKind(s, t, index, n, guest + got) !== kind) break;
    got += sub;
  }
  return { kind, length: Math.min(length, got), host: host < 0 ? -1 : host + inside, compressedBytes: 0 };
}

/** Kind of subcluster `n` of an extended entry that is not compressed. */
export function subKind(s: State, t: Table, index: number, n: number, guest: number): number {
  const hi = t.hi(index * 2);
  const hasHost = (hi & 0x00ffffff) !== 0 || (t.lo(index * 2) & 0xfffffe00) !== 0 || (s.hasDataFile && (hi & COPIED) !== 0);
  const zero = (t.hi(index * 2 + 1) >>> n) & 1;
  const alloc = (t.lo(index * 2 + 1) >>> n) & 1;
  if (alloc) {
    if (zero) throw corrupt(`subcluster at guest offset ${hex(guest)} is both allocated and zero`);
    if (!hasHost) throw corrupt(`subcluster at guest offset ${hex(guest)} is allocated, but its cluster is not`);
    return DATA;
  }
  if (zero) return hasHost ? ZERO_ALLOC : ZERO;
  return hasHost ? UNALLOCATED_ALLOC : UNALLOCATED;
}
