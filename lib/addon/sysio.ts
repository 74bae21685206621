import { fdatasyncSync, fstatSync, lutimesSync, readFileSync, readSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { isZero } from '../core/bytes.js';
import { setNativeCrc32c } from '../core/checksum.js';
import { fromSystem, GuestError } from '../core/errors.js';
import { loadTarget } from './load.js';

/** What `native/napi/sysio.cc` exports.  Errors are Node-style system errors (code "EINVAL", …). */
interface Native {
  pread(fd: number, into: Uint8Array, offset: number): number;
  pwrite(fd: number, from: Uint8Array, offset: number): number;
  /** SEEK_DATA / SEEK_HOLE; -1 where there is none (ENXIO). */
  seekData(fd: number, offset: number): number;
  seekHole(fd: number, offset: number): number;
  /** fallocate(2); returns false where the filesystem does not support it. */
  fallocate(fd: number, mode: number, offset: number, length: number): boolean;
  /** copy_file_range(2) until done or refused; the number of bytes copied, 0 where not supported. */
  copyRange(inFd: number, inOffset: number, outFd: number, outOffset: number, length: number): number;
  clone(inFd: number, outFd: number): boolean;
  fdatasync(fd: number): void;
  /** Open-file-description lock on one byte range: "read", "write" or "unlock".  0 when taken, else the pid of a holder (-1 unknown). */
  lock(fd: number, kind: number, start: number, length: number, test: boolean): number;
  blockDeviceSize(fd: number): number;
  blockDeviceSectorSize(fd: number): number;
  openDirect(path: string, writable: boolean): number;
  allocAligned(size: number): Uint8Array;
  makeNode(path: Uint8Array, mode: number, major: number, minor: number): void;
  setTimes(path: Uint8Array, atimeSec: number, atimeNsec: number, mtimeSec: number, mtimeNsec: number): void;
  setXattr(path: Uint8Array, name: string, value: Uint8Array): boolean;
  transfer(ops: Float64Array, buffer: Uint8Array, zeroMap: Uint8Array, granularity: number): void;
  isZero(b: Uint8Array): boolean;
  crc32c(b: Uint8Array, crc: number): number;
}

let native: Native | undefined;
let asked = false;
function addon(): Native | undefined {
  if (!asked) {
    asked = true;
    native = loadTarget<Native>('sysio');
    if (native !== undefined) setNativeCrc32c(native.crc32c);
  }
  return native;
}
/** Loads the addon now: CRC32C then runs in hardware.  Returns whether it is there. */
export const hasSysio = (): boolean => addon() !== undefined;

export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const FALLOC_ZERO_RANGE = 16;

/** Reads until `into` is full or the file ends; the bytes read. */
export function preadFull(fd: number, into: Uint8Array, offset: number): number {
  let done = 0;
  while (done < into.length) {
    let n: number;
    try {
      n = readSync(fd, into, done, into.length - done, offset + done);
    } catch (e) {
      throw fromSystem(e, { offset: offset + done, op: 'read' });
    }
    if (n === 0) break;
    done += n;
  }
  return done;
}

export function pwriteFull(fd: number, from: Uint8Array, offset: number): void {
  let done = 0;
  while (done < from.length) {
    try {
      done += writeSync(fd, from, done, from.length - done, offset + done);
    } catch (e) {
      throw fromSystem(e, { offset: offset + done, op: 'write' });
    }
  }
}

export function fdatasync(fd: number): void {
  try {
    fdatasyncSync(fd);
  } catch (e) {
    throw fromSystem(e, { op: 'fdatasync' });
  }
}

/**
 * The first run at `offset` of a host file: data or hole, by SEEK_DATA/SEEK_HOLE.  Without the addon everything is data.
 */
export function dataRun(fd: number, offset: number, length: number): { readonly data: boolean; readonly length: number } {
  const a = addon();
  if (a === undefined) return { data: true, length };
  const data = a.seekData(fd, offset);
  if (data < 0) return { data: false, length };
  if (data > offset) return { data: false, length: Math.min(length, data - offset) };
  const hole = a.seekHole(fd, offset);
  return { data: true, length: hole <= offset ? length : Math.min(length, hole - offset) };
}

/** Frees the range (it then reads as zeroes); false where that is not possible. */
export const punchHole = (fd: number, offset: number, length: number): boolean =>
  addon()?.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length) ?? false;
/** Zeroes the range keeping it allocated; false where that is not possible. */
export const zeroRange = (fd: number, offset: number, length: number): boolean =>
  addon()?.fallocate(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length) ?? false;
/** Allocates the range (extends the file); false where that is not possible. */
export const allocate = (fd: number, offset: number, length: number): boolean =>
  addon()?.fallocate(fd, 0, offset, length) ?? false;

/** Copies between files inside the kernel (shared extents where the filesystem can); the bytes copied, possibly 0. */
export const copyRange = (inFd: number, inOffset: number, outFd: number, outOffset: number, length: number): number =>
  addon()?.copyRange(inFd, inOffset, outFd, outOffset, length) ?? 0;

/** FICLONE: makes the empty file `outFd` share all of `inFd`; false where that is not possible. */
export const cloneFile = (inFd: number, outFd: number): boolean => addon()?.clone(inFd, outFd) ?? false;

export type LockKind = 'read' | 'write' | 'unlock';
const LOCK_KINDS: Readonly<Record<LockKind, number>> = { read: 0, write: 1, unlock: 2 };
/** Takes an OFD lock; undefined when taken (or when locks are not to be had), else the pid of a holder, -1 if unknown. */
export function ofdLock(fd: number, kind: LockKind, start: number, length: number): number | undefined {
  const r = addon()?.lock(fd, LOCK_KINDS[kind], start, length, false) ?? 0;
  return r === 0 ? undefined : r;
}
/** Would the lock be refused?  The pid of a holder, -1 if unknown; undefined when it is free. */
export function ofdLockTest(fd: number, kind: 'read' | 'write', start: number, length: number): number | undefined {
  const r = addon()?.lock(fd, LOCK_KINDS[kind], start, length, true) ?? 0;
  return r === 0 ? undefined : r;
}

/** Bytes of an open file or block device. */
export function sizeOf(fd: number): number {
  const st = fstatSync(fd);
  if (!st.isBlockDevice()) return st.size;
  const a = addon();
  if (a !== undefined) return a.blockDeviceSize(fd);
  return sysBlock(st.rdev, 'size') * 512;
}

/** A figure of a block device from sysfs, for when there is no addon to ask with an ioctl.  Partitions have no queue of their own. */
function sysBlock(rdev: number, file: string): number {
  const major = ((rdev >>> 8) & 0xfff) | (Math.floor(rdev / 2 ** 32) & 0xfffff000);
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  for (const path of [`/sys/dev/block/${major}:${minor}/${file}`, `/sys/dev/block/${major}:${minor}/../${file}`])
    try {
      return Number(readFileSync(path, 'latin1').trim());
    } catch {
      // the next place
    }
  throw new GuestError(
    'unsupported',
    `the ${file} of block device ${major}:${minor} is not in /sys (it needs the native addon: npm run build:native)`,
  );
}
/** Logical sector size: BLKSSZGET for block devices, 512 for files. */
export function sectorSizeOf(fd: number): number {
  const st = fstatSync(fd);
  if (!st.isBlockDevice()) return 512;
  return addon()?.blockDeviceSectorSize(fd) ?? sysBlock(st.rdev, 'queue/logical_block_size');
}

/** O_DIRECT; undefined where not possible. */
export const openDirect = (path: string, writable: boolean): number | undefined => addon()?.openDirect(path, writable);
/** Memory aligned to 4096 for O_DIRECT. */
export const allocAligned = (size: number): Uint8Array => addon()?.allocAligned(size) ?? new Uint8Array(size);

let nativeIsZero: ((b: Uint8Array) => boolean) | undefined;
/** Is every byte zero?  Vectorised when the addon is there. */
export function isZeroFast(b: Uint8Array): boolean {
  nativeIsZero ??= addon()?.isZero ?? isZero;
  return nativeIsZero(b);
}

/** mknod(2) for devices, fifos and sockets; false without the addon. */
export function makeNode(path: Uint8Array, mode: number, rdev: { readonly major: number; readonly minor: number }): boolean {
  const a = addon();
  if (a === undefined) return false;
  try {
    a.makeNode(path, mode, rdev.major, rdev.minor);
    return true;
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EPERM') return false;
    throw fromSystem(e, { op: 'mknod' });
  }
}

interface Moment {
  readonly sec: number;
  readonly nsec: number;
}
/** Times of a name itself (a link is not followed), to the nanosecond; to the millisecond without the addon. */
export function setTimes(path: Uint8Array, atime: Moment, mtime: Moment): void {
  const a = addon();
  try {
    if (a !== undefined) a.setTimes(path, atime.sec, atime.nsec, mtime.sec, mtime.nsec);
    else lutimesSync(Buffer.from(path), atime.sec + atime.nsec / 1e9, mtime.sec + mtime.nsec / 1e9);
  } catch (e) {
    throw fromSystem(e, { op: 'utimensat' });
  }
}

/** lsetxattr(2); false where the filesystem, our rights, or the missing addon do not allow it. */
export function setXattr(path: Uint8Array, name: string, value: Uint8Array): boolean {
  try {
    return addon()?.setXattr(path, name, value) ?? false;
  } catch (e) {
    throw fromSystem(e, { op: 'lsetxattr' });
  }
}

/** One piece of a `transfer`. */
export interface TransferOp {
  readonly kind: 'read' | 'write';
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
  /** Where in the buffer; a multiple of the granularity for reads. */
  readonly at: number;
}

/**
 * Reads and writes many pieces of host files at once, on all cores with the addon.  After a read, `zeroMap[k]` says whether
 * the k-th `granularity` bytes of the buffer are all zero, for every k that a read covers.  A read past the end gives zeroes.
 */
export function transfer(ops: readonly TransferOp[], buffer: Uint8Array, zeroMap: Uint8Array, granularity: number): void {
  const a = addon();
  if (a === undefined) {
    for (const o of ops) {
      const part = buffer.subarray(o.at, o.at + o.length);
      if (o.kind === 'write') {
        pwriteFull(o.fd, part, o.offset);
        continue;
      }
      part.fill(0, preadFull(o.fd, part, o.offset));
      for (let k = 0; k < o.length; k += granularity)
        zeroMap[Math.floor((o.at + k) / granularity)] = isZero(part.subarray(k, k + granularity)) ? 1 : 0;
    }
    return;
  }
  const plan = new Float64Array(ops.length * 6);
  for (const [i, o] of ops.entries()) plan.set([o.kind === 'read' ? 0 : 1, o.fd, o.offset, o.length, o.at], i * 6);
  a.transfer(plan, buffer, zeroMap, granularity);
  for (const [i, o] of ops.entries()) {
    const errno = plan[i * 6 + 5]!;
    if (errno === 0) continue;
    const name = getSystemErrorName(-errno);
    throw fromSystem(Object.assign(new Error(`${name}, ${o.kind}`), { code: name }), { offset: o.offset, op: o.kind });
  }
}
