import { GuestError, hex } from '../core/errors.js';

/** A run of bytes of a source. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/**
 * Where bytes are.  `host`: in an open host file, so native code can move them alone.  `zero`: reads as zeroes and is not
 * allocated anywhere.  `computed`: compressed, encrypted, remote or in memory; only `read` knows.
 */
export type Run =
  | { readonly kind: 'host'; readonly fd: number; readonly offset: number; readonly length: number }
  | { readonly kind: 'zero'; readonly length: number }
  | { readonly kind: 'computed'; readonly length: number };

/**
 * Bytes addressed by offset: a host file, an image's guest view, a partition, a logical volume, a decrypted volume.
 * Everything is synchronous: see ARCHITECTURE.md, "Bytes".  The caller owns buffers; nobody keeps a reference to them.
 */
export interface BlockSource {
  /** For messages: "disk.qcow2", "disk.qcow2, partition 2", "/dev/vg/root". */
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  /** Logical sector size in bytes: 512 or 4096. */
  readonly sectorSize: number;
  /** Fills all of `into` from `offset`; throws if any of it lies outside the source. */
  read(into: Uint8Array, offset: number): void;
  /**
   * Where the bytes at `offset` come from: the first run there, at most `length` long and at least 1 byte.  Sources
   * stack, so this is asked once per extent instead of once per read, and a list of host runs can be handed to native code.
   */
  map(offset: number, length: number): Run;
  /** A hint that these ranges will be read soon.  May do nothing. */
  prefetch?(ranges: readonly Range[]): void;
  /** Idempotent.  A source closes what it opened itself, never a source it was given. */
  close(): void;
}

export interface WritableSource extends BlockSource {
  write(from: Uint8Array, offset: number): void;
  /** Makes the range read as zeroes; may free space. */
  zero(offset: number, length: number): void;
  /** Tells the source that the range's contents no longer matter; it then reads as zeroes or as before. */
  discard?(offset: number, length: number): void;
  /** Returns when all earlier writes are on stable storage. */
  flush(): void;
}

/** A writable source that can grow or shrink: the file below an image format. */
export interface ResizableSource extends WritableSource {
  resize(size: number): void;
}

export function isWritable(s: BlockSource): s is WritableSource {
  return typeof (s as Partial<WritableSource>).write === 'function';
}

/** Throws unless `[offset, offset+length)` lies inside `source`. */
export function checkRange(source: { readonly label: string; readonly size: number }, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > source.size)
    throw new GuestError('corrupt', `${source.label}: ${length} bytes at ${hex(offset)} are outside (size ${hex(source.size)})`, {
      offset,
    });
}

/** A fresh buffer with `length` bytes from `offset`.  The caller has bounded `length`. */
export function readAt(source: BlockSource, offset: number, length: number): Uint8Array {
  checkRange(source, offset, length);
  const b = new Uint8Array(length);
  source.read(b, offset);
  return b;
}

/** As `readAt`, but what lies past the end is left out: for probing, which must not throw. */
export function readUpTo(source: BlockSource, offset: number, length: number): Uint8Array {
  const n = Math.max(0, Math.min(length, source.size - offset));
  const b = new Uint8Array(n);
  if (n > 0) source.read(b, offset);
  return b;
}

/** All runs of a range, neighbours of one kind joined. */
export function* mapAll(source: BlockSource, offset: number, length: number): Generator<Run & { readonly at: number }> {
  let last: (Run & { readonly at: number }) | undefined;
  const end = offset + length;
  while (offset < end) {
    const run = source.map(offset, end - offset);
    if (!(run.length > 0)) throw new GuestError('internal', `internal error: ${source.label}: empty run at ${hex(offset)}`);
    const joined: Run | undefined =
      last === undefined
        ? undefined
        : last.kind === 'host' && run.kind === 'host'
          ? last.fd === run.fd && last.offset + last.length === run.offset
            ? { ...last, length: last.length + run.length }
            : undefined
          : last.kind === run.kind
            ? { ...last, length: last.length + run.length }
            : undefined;
    if (joined !== undefined) last = { ...joined, at: last!.at };
    else {
      if (last !== undefined) yield last;
      last = { ...run, at: offset };
    }
    offset += run.length;
  }
  if (last !== undefined) yield last;
}
