import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs';
import {
  allocate,
  dataRun,
  fdatasync,
  preadFull,
  punchHole,
  pwriteFull,
  sectorSizeOf,
  sizeOf,
  zeroRange,
} from '../addon/sysio.js';
import { fromSystem, within } from '../core/errors.js';
import { type BlockSource, checkRange, type ResizableSource, type Run } from './source.js';

export interface FileOptions {
  readonly writable?: boolean;
  /** Overrides the sector size found (512 for files, the device's for block devices). */
  readonly sectorSize?: number;
  /** Shown in messages instead of the path. */
  readonly label?: string;
}

/** A host file or block device.  The file's length is taken once, at opening. */
export class FileSource implements BlockSource {
  readonly label: string;
  readonly sectorSize: number;
  protected length: number;
  /** Where the last `map` found a run to end, so that a sequential caller costs one SEEK pair a run. */
  #run: { start: number; end: number; data: boolean } = { start: 0, end: 0, data: true };
  #open = true;

  constructor(
    readonly fd: number,
    readonly path: string,
    options: FileOptions = {},
  ) {
    this.label = options.label ?? path;
    this.length = within({ path }, () => sizeOf(fd));
    this.sectorSize = options.sectorSize ?? sectorSizeOf(fd);
  }

  get size(): number {
    return this.length;
  }

  read(into: Uint8Array, offset: number): void {
    checkRange(this, offset, into.length);
    within({ path: this.path }, () => {
      const n = preadFull(this.fd, into, offset);
      // Someone shortened the file since: what is gone reads as zeroes would be a lie.
      if (n < into.length) checkRange({ label: this.label, size: offset + n }, offset, into.length);
    });
  }

  map(offset: number, length: number): Run {
    checkRange(this, offset, length);
    if (offset < this.#run.start || offset >= this.#run.end) {
      const found = dataRun(this.fd, offset, this.length - offset);
      this.#run = { start: offset, end: offset + found.length, data: found.data };
    }
    const n = Math.min(length, this.#run.end - offset);
    return this.#run.data ? { kind: 'host', fd: this.fd, offset, length: n } : { kind: 'zero', length: n };
  }

  protected forgetRuns(): void {
    this.#run = { start: 0, end: 0, data: true };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

const ZEROES = new Uint8Array(1 << 20);

/** As FileSource, with writing.  Writing past the end makes the file longer. */
export class WritableFileSource extends FileSource implements ResizableSource {
  write(from: Uint8Array, offset: number): void {
    this.forgetRuns();
    within({ path: this.path }, () => pwriteFull(this.fd, from, offset));
    if (offset + from.length > this.length) this.length = offset + from.length;
  }

  zero(offset: number, length: number): void {
    this.forgetRuns();
    if (offset + length > this.length) this.resize(offset + length);
    within({ path: this.path }, () => {
      if (punchHole(this.fd, offset, length) || zeroRange(this.fd, offset, length)) return;
      for (let at = 0; at < length; at += ZEROES.length)
        pwriteFull(this.fd, ZEROES.subarray(0, Math.min(ZEROES.length, length - at)), offset + at);
    });
  }

  /** The caller is about to write this range through `fd`, without this object; the file is made long enough. */
  reserve(offset: number, length: number): number {
    this.forgetRuns();
    if (offset + length > this.length) this.resize(offset + length);
    return this.fd;
  }

  discard(offset: number, length: number): void {
    this.forgetRuns();
    const n = Math.min(length, this.length - offset);
    if (n > 0) punchHole(this.fd, offset, n);
  }

  /** Reserves host blocks; false where the filesystem cannot. */
  allocate(offset: number, length: number): boolean {
    this.forgetRuns();
    const done = within({ path: this.path }, () => allocate(this.fd, offset, length));
    if (done && offset + length > this.length) this.length = offset + length;
    return done;
  }

  resize(size: number): void {
    this.forgetRuns();
    // Truncating an empty file to nothing would make ext4 write all of its data out when it is closed.
    if (size !== 0 || fstatSync(this.fd).size !== 0) within({ path: this.path }, () => ftruncateSync(this.fd, size));
    this.length = size;
  }

  flush(): void {
    within({ path: this.path }, () => fdatasync(this.fd));
  }
}

function open(path: string, flags: number, mode = 0o644): number {
  try {
    return openSync(path, flags, mode);
  } catch (e) {
    throw fromSystem(e, { path, op: 'open' });
  }
}

export const openFile = (path: string, options: Omit<FileOptions, 'writable'> = {}): FileSource =>
  new FileSource(open(path, constants.O_RDONLY), path, options);
export const openFileWritable = (path: string, options: FileOptions = {}): WritableFileSource =>
  new WritableFileSource(open(path, constants.O_RDWR), path, options);
/** Makes an empty file.  `exclusive` refuses to overwrite. */
export const createFile = (path: string, options: FileOptions & { readonly exclusive?: boolean } = {}): WritableFileSource =>
  new WritableFileSource(
    open(path, constants.O_RDWR | constants.O_CREAT | (options.exclusive ? constants.O_EXCL : constants.O_TRUNC)),
    path,
    options,
  );
