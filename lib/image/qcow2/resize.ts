import { WritableFileSource } from '../../block/file.js';
import type { ResizableSource } from '../../block/source.js';
import { GuestError, usage } from '../../core/errors.js';
import { growL1 } from './l1.js';
import { find, UNALLOCATED, UNALLOCATED_ALLOC } from './lookup.js';
import type { Writer } from './writer.js';

export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** Changes the virtual size.  What is cut off is freed; what is added reads as zeroes. */
export function resizeDisk(w: Writer, size: number, preallocation: Preallocation): void {
  const { s } = w;
  const old = s.header.size;
  if (size % 512 !== 0) throw usage(`size ${size} is not a multiple of 512`);
  if (s.header.version < 3 && s.header.snapshotCount > 0)
    throw new GuestError('unsupported', 'a version 2 image with snapshots cannot be resized');
  w.prepare();
  if (size < old) shrink(w, size, old);
  else if (size > old) grow(w, size, old, preallocation);
}

function shrink(w: Writer, size: number, old: number): void {
  const { s, refcounts } = w;
  const cs = s.clusterSize;
  w.discard(Math.ceil(size / cs) * cs, old - Math.ceil(size / cs) * cs, true);
  const keep = Math.ceil(size / (cs * s.l2Entries));
  for (let i = keep; i < s.l1.entries; i++) {
    const at = s.l1.target(i);
    if (at === 0) continue;
    s.l1.set(i, 0, 0);
    refcounts.freeLater(at, cs);
    s.l2.delete(at);
  }
  s.header.size = size;
  s.writeHeader();
  if (s.hasDataFile) (s.dataFile as Partial<ResizableSource>).resize?.(size);
  w.flush();
}

function grow(w: Writer, size: number, old: number, preallocation: Preallocation): void {
  const { s } = w;
  growL1(w, size);
  if (s.hasDataFile && s.dataFile.size < size) (s.dataFile as Partial<ResizableSource>).resize?.(size);
  s.header.size = size;
  // The last cluster may hold what an earlier, larger disk had there; a longer backing file must not shine through.
  const tail = Math.min(size, Math.ceil(old / s.clusterSize) * s.clusterSize);
  if (tail > old) w.zero(old, tail - old);
  const covered = Math.min(size, s.backing?.size ?? 0);
  if (covered > tail) w.zero(tail, covered - tail);
  if (preallocation !== 'off') preallocateDisk(w, tail, size, preallocation);
  w.writeBack();
  s.writeHeader();
  w.flush();
}

/** Gives every unallocated cluster of a range a host cluster that reads as zeroes. */
export function preallocateDisk(w: Writer, from: number, to: number, mode: Preallocation): void {
  const { s } = w;
  const cs = s.clusterSize;
  if (s.backing !== undefined && from < s.backing.size)
    throw new GuestError('unsupported', 'preallocation over a backing file is not possible');
  const span = cs * s.l2Entries;
  w.prepare();
  for (let at = from - (from % cs); at < to; ) {
    const run = find(s, s.l1, at, Math.min(to, (Math.floor(at / span) + 1) * span) - at);
    const count = Math.ceil(run.length / cs);
    if (run.kind !== UNALLOCATED || count === 0) {
      at += Math.max(cs, run.kind === UNALLOCATED_ALLOC ? cs : count * cs);
      continue;
    }
    const got = w.allocate(at, count);
    reserve(w, got.host, got.count * cs, mode);
    const table = w.l2ForWrite(Math.floor(at / span));
    const first = Math.floor(at / cs) % s.l2Entries;
    // With subclusters the cluster is reserved and its subclusters stay unallocated.
    for (let k = 0; k < got.count; k++) w.setCluster(table, first + k, got.host + k * cs);
    at += got.count * cs;
  }
}

/** Host space for new clusters: a hole for metadata only, else blocks or written zeroes. */
function reserve(w: Writer, host: number, length: number, mode: Preallocation): void {
  const target = w.dataTarget as ResizableSource;
  const old = target.size;
  if (old < host + length) target.resize(host + length);
  if (mode === 'falloc' && target instanceof WritableFileSource && target.allocate(host, length)) return;
  if (mode === 'falloc' || mode === 'full') {
    const z = new Uint8Array(Math.min(length, 1 << 20));
    for (let at = 0; at < length; at += z.length) target.write(z.subarray(0, Math.min(z.length, length - at)), host + at);
  } else if (host < old) target.zero(host, Math.min(length, old - host));
}
