import type { BlockSource, Range, ResizableSource, WritableSource } from '../block/source.js';

/**
 * An image format's driver.  A driver gets the file already open; whatever the image refers to goes through
 * `OpenContext.openReference`, so a hostile qcow2 cannot name /etc/shadow as its backing file behind our back.
 */
export interface ImageFormat {
  /** As qemu-img spells it: "raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi". */
  readonly name: string;
  /** A hint for messages, never evidence. */
  readonly extensions: readonly string[];
  /** True when the bytes are this format's.  `head` is up to the first 64 KiB.  Never throws.  Raw says true and stands last. */
  probe(head: Uint8Array, file: BlockSource): boolean;
  /** As `probe`, when the caller named the format: may accept what is too weak a sign for guessing (a fixed VHD's footer). */
  accepts?(head: Uint8Array, file: BlockSource): boolean;
  open(file: BlockSource, context: OpenContext): Image;
  /** Writes an empty image into `file` (an empty file, or one to be overwritten). */
  create?(file: ResizableSource, options: CreateOptions, context: CreateContext): void;
  /** What `-o help` lists. */
  readonly createOptions?: readonly CreateOptionInfo[];
}

export interface CreateOptionInfo {
  readonly name: string;
  readonly type: 'size' | 'number' | 'string' | 'on/off';
  /** As `qemu-img create -f FMT -o help` says it, in our words. */
  readonly help: string;
  readonly values?: readonly string[];
}

/** What an image may reach besides its own file.  Nothing is opened behind the caller's back. */
export interface OpenContext {
  readonly writable: boolean;
  /** The file's path or URL when it has one, for relative references. */
  readonly path?: string;
  /** Called for a backing file, an extent file or an external data file; may refuse ("denied"). */
  openReference(reference: Reference): BlockSource;
  /** Nothing above this image will ask for its backing (`info` of one file): the driver must not open it. */
  readonly noBacking?: boolean;
  /** Passphrase for encrypted formats (LUKS in qcow2, qcow AES), asked for only when needed; `undefined` when there is none. */
  secret?(): Uint8Array | undefined;
  /** Opens even when the format says that the metadata is damaged (corrupt bit, dirty bit): for `check`. */
  readonly forCheck?: boolean;
}

export interface Reference {
  readonly role: 'backing' | 'data' | 'extent';
  /** As stored in the image. */
  readonly name: string;
  readonly format?: string;
  readonly writable?: boolean;
}

/** Makes the further files of a format of several files (VMDK extents, qcow2 data file). */
export interface CreateContext {
  readonly path?: string;
  createSibling(name: string): ResizableSource;
  /** Opens the backing file of `CreateOptions.backing`, for formats that record something of it (VMDK: its content id). */
  openBacking?(): BlockSource;
  secret?(): Uint8Array | undefined;
}

export interface CreateOptions {
  /** Virtual size in bytes. */
  readonly size: number;
  readonly backing?: { readonly name: string; readonly format: string };
  /** Format settings as given to -o, already split at commas: name → value as text. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** An open image is the disk the guest sees. */
export interface Image extends BlockSource {
  readonly format: string;
  /** The file below. */
  readonly file: BlockSource;
  readonly backing?: BlockSource | undefined;
  describe(): ImageInfo;
  /**
   * Room for guest bytes that the caller then writes itself, at once, by native code: the places together cover the
   * range.  Where `fd` is -1 only `write` can (encryption, part of a block).
   */
  placeForWrite?(offset: number, length: number): readonly Place[];
  /**
   * Allocation of the guest's view in this layer, for `map` and `convert`: the first extent at `offset`, at most `length`.
   * `depth` 0 is this image, 1 its backing file, …
   */
  extent(offset: number, length: number): Extent;
  /** Structure check: what `qemu-img check` would count. */
  check?(): CheckResult;
  /** Repairs what check found; `leaks` frees leaked clusters only. */
  repair?(what: 'leaks' | 'all'): CheckResult;
}

/** A part of a range, in order: where its bytes go in a host file. */
export interface Place {
  readonly length: number;
  readonly fd: number;
  readonly offset: number;
}

export type WritableImage = Image & WritableSource;

export interface Extent {
  readonly length: number;
  readonly depth: number;
  /** Allocated in some layer. */
  readonly present: boolean;
  /** Reads as zeroes. */
  readonly zero: boolean;
  /** Has bytes in a host file as they are (neither zero nor computed). */
  readonly data: boolean;
  readonly compressed: boolean;
  /** Byte offset in `file`, when the bytes lie there as they are. */
  readonly offset?: number;
  readonly filename?: string;
}

export interface ImageInfo {
  readonly format: string;
  readonly virtualSize: number;
  readonly clusterSize?: number;
  readonly encrypted?: boolean;
  readonly compressed?: boolean;
  /** Not closed cleanly (qcow2 dirty bit, VHDX log to be replayed). */
  readonly dirty?: boolean;
  readonly corrupt?: boolean;
  readonly backingName?: string;
  readonly backingFormat?: string;
  readonly snapshots: readonly SnapshotInfo[];
  readonly features: readonly string[];
  /** The "format-specific" → "data" object of `qemu-img info --output=json`, with its key names. */
  readonly specific?: Readonly<Record<string, unknown>>;
  /** Files besides `file`: VMDK extents, qcow2 data file. */
  readonly extentFiles?: readonly string[];
}

export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  readonly vmStateSize: number;
  readonly dateSec: number;
  readonly dateNsec: number;
  readonly vmClockNsec: bigint;
  readonly icount?: bigint;
  readonly diskSize?: number;
}

export interface Problem {
  readonly kind: 'leak' | 'corruption';
  readonly at: Range;
  readonly message: string;
}

export interface CheckResult {
  readonly problems: readonly Problem[];
  readonly corruptions: number;
  readonly leaks: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  readonly checkErrors: number;
  /** Bytes of file that metadata and data use: qemu-img's "image-end-offset". */
  readonly imageEnd?: number;
  readonly totalClusters?: number;
  readonly allocatedClusters?: number;
  readonly fragmentedClusters?: number;
  readonly compressedClusters?: number;
}
