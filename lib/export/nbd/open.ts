import { hasSysio } from '../../addon/sysio.js';
import { WritableFileSource } from '../../block/file.js';
import { ALLOCATION_DEPTH, BASE_ALLOCATION, DIRTY_BITMAP, STATE_HOLE, STATE_ZERO } from '../../block/nbd-protocol.js';
import { Overlay } from '../../block/overlay.js';
import { type BlockSource, isWritable, type WritableSource } from '../../block/source.js';
import { window } from '../../block/window.js';
import { GuestError, unsupported, usage } from '../../core/errors.js';
import type { Image } from '../../image/format.js';
import { type OpenImageOptions, openImage } from '../../image/open.js';
import { Qcow2Image } from '../../image/qcow2/index.js';
import { probeFormat } from '../../image/registry.js';
import { Storage, type StorageNode } from '../../storage/index.js';
import type { MetaContext, NbdExport } from './export.js';

export interface ExportOptions {
  readonly image: string;
  readonly name?: string;
  readonly description?: string;
  readonly format?: string;
  readonly readOnly?: boolean;
  /** Id or name of an internal snapshot: read-only. */
  readonly snapshot?: string;
  /** Writes go to a temporary overlay and are thrown away. */
  readonly overlay?: boolean;
  /** First byte of the image that is exported. */
  readonly offset?: number;
  /** Number of a partition. */
  readonly partition?: number;
  /** A device of the storage stack: "/dev/sda1", "/dev/vg/lv", "UUID=…". */
  readonly device?: string;
  /** Opens encrypted volumes on the way to `device`. */
  readonly keys?: ConstructorParameters<typeof Storage>[1];
  /** Names of persistent bitmaps of a qcow2 image to tell of. */
  readonly bitmaps?: readonly string[];
  readonly discard?: boolean;
  readonly writeThrough?: boolean;
  readonly multiConn?: boolean;
  readonly open?: Omit<OpenImageOptions, 'format' | 'writable'>;
}

export interface OpenExport extends NbdExport {
  readonly format: string;
  /** The format was guessed to be raw: writes that would make it look like another one are refused. */
  readonly guarded: boolean;
  close(): void;
}

/** Opens an image, or a part of one, as an export. */
export function openExport(o: ExportOptions): OpenExport {
  const parts = [o.offset, o.partition, o.device].filter((x) => x !== undefined).length;
  if (parts > 1) throw usage('offset, partition and device exclude each other');
  const readOnly = o.readOnly === true || o.snapshot !== undefined;
  const writesImage = !readOnly && o.overlay !== true;
  const settings: OpenImageOptions = { references: 'any', ...o.open, ...(o.format === undefined ? {} : { format: o.format }) };
  const image: Image = writesImage ? openImage(o.image, { ...settings, writable: true }) : openImage(o.image, settings);
  const closers: (() => void)[] = [() => image.close()];
  const close = () => {
    let failed: unknown;
    for (const c of closers.splice(0).reverse())
      try {
        c();
      } catch (e) {
        failed ??= e;
      }
    if (failed !== undefined) throw failed;
  };
  try {
    const guarded = writesImage && o.format === undefined && image.format === 'raw';
    let whole: BlockSource = guarded && isWritable(image) ? new RawGuard(image) : image;
    if (o.snapshot !== undefined) whole = openSnapshot(image, o.snapshot);
    const part = partOf(whole, o);
    let source = part.source;
    if (!readOnly && o.overlay === true) {
      const overlay = new Overlay(source);
      closers.push(() => overlay.close());
      source = overlay;
    }
    const refused = !isWritable(source) ? 'this can be exported for reading only' : writesImage ? part.refuses : undefined;
    if (!readOnly && refused !== undefined)
      throw new GuestError('read-only', `${refused} (add --read-only, or --snapshot to throw writes away)`, {
        path: o.image,
        ...(o.device === undefined ? {} : { device: o.device }),
      });
    const contexts: MetaContext[] = [allocation(source)];
    // Depths and bitmaps are the image's; they tell nothing of a volume that is put together from pieces of it.
    if (o.snapshot === undefined && part.start !== undefined) {
      if (o.overlay !== true) contexts.push(depth(image, part.start));
      for (const b of o.bitmaps ?? []) contexts.push(bitmap(image, b, part.start, source.size));
    } else if ((o.bitmaps ?? []).length > 0) throw usage('bitmaps are told of whole images and partitions only');
    return {
      name: o.name ?? '',
      description: o.description,
      source,
      readOnly,
      contexts,
      fastZero: writesImage && zeroesFast(image),
      discard: o.discard !== false,
      writeThrough: o.writeThrough === true,
      multiConn: o.multiConn === true,
      format: image.format,
      guarded,
      close,
    };
  } catch (e) {
    close();
    throw e;
  }
}

interface Part {
  readonly source: BlockSource;
  /** Where in the image it begins, when it is one piece of it. */
  readonly start?: number;
  /** Why it must not be written to. */
  readonly refuses?: string | undefined;
}

function partOf(whole: BlockSource, o: ExportOptions): Part {
  if (o.offset !== undefined) {
    if (o.offset >= whole.size) throw usage(`offset ${o.offset} is past the end of the disk (${whole.size} bytes)`);
    return { source: window(whole, o.offset, whole.size - o.offset), start: o.offset };
  }
  if (o.partition === undefined && o.device === undefined) return { source: whole, start: 0 };
  const storage = new Storage([{ source: whole, path: o.image }], o.keys);
  const disk = storage.disks[0]!;
  if (o.partition !== undefined) {
    const node = disk.children.find((c) => c.partition?.number === o.partition);
    if (node?.source === undefined) {
      const known = disk.children.flatMap((c) => (c.partition === undefined ? [] : [c.partition.number]));
      throw new GuestError(
        'not-found',
        `no partition ${o.partition}${known.length === 0 ? ' (there is no partition table)' : ` (partitions: ${known.join(', ')})`}`,
        { path: o.image },
      );
    }
    return { source: node.source, start: node.partition!.start };
  }
  const node = storage.get(o.device!);
  if (node.source === undefined) throw unsupported(`${o.device}: ${node.problems[0] ?? 'nothing to read here'}`);
  if (node.kind === 'disk') return { source: node.source, start: 0 };
  if (node.kind === 'partition') return { source: node.source, start: node.partition!.start };
  return { source: node.source, refuses: refusesWrites(node) };
}

/** A volume is written to in its place only where nothing else depends on its old contents. */
function refusesWrites(node: StorageNode): string | undefined {
  if (node.source !== undefined && !isWritable(node.source)) return `${node.device} can be exported for reading only`;
  // The origin of a snapshot would have to be copied to it first, which only the kernel's snapshot target does.
  if (node.kind === 'volume-group' && node.children.some((c) => c.volume?.kinds.includes('snapshot')))
    return `volume group ${node.device} has snapshots: its volumes can be exported for reading only`;
  for (const p of node.parents) {
    const why = refusesWrites(p);
    if (why !== undefined) return why;
  }
  return undefined;
}

function openSnapshot(image: Image, wanted: string): BlockSource {
  if (!(image instanceof Qcow2Image)) throw unsupported(`${image.label}: ${image.format} images have no internal snapshots`);
  const rule = /^snapshot\.(id|name)=/.test(wanted)
    ? new Map(wanted.split(',').map((p) => p.split('=', 2) as [string, string]))
    : undefined;
  if (rule === undefined) return image.openSnapshot(wanted);
  const id = rule.get('snapshot.id');
  const name = rule.get('snapshot.name');
  const found = image.snapshots.find((s) => (id === undefined || s.id === id) && (name === undefined || s.name === name));
  if (found === undefined) throw new GuestError('not-found', `no snapshot ${wanted}`, { path: image.label });
  return image.openSnapshot(found.id);
}

const allocation = (source: BlockSource): MetaContext => ({
  name: BASE_ALLOCATION,
  status(offset, length) {
    const run = source.map(offset, length);
    return { length: run.length, flags: run.kind === 'zero' ? STATE_HOLE | STATE_ZERO : 0 };
  },
});

const depth = (image: Image, start: number): MetaContext => ({
  name: ALLOCATION_DEPTH,
  status(offset, length) {
    const e = image.extent(start + offset, length);
    return { length: e.length, flags: e.present ? e.depth + 1 : 0 };
  },
});

function bitmap(image: Image, name: string, start: number, size: number): MetaContext {
  if (!(image instanceof Qcow2Image)) throw usage(`${image.label}: ${image.format} images have no bitmaps`);
  const info = image.bitmaps.find((b) => b.name === name);
  if (info === undefined) throw new GuestError('not-found', `no bitmap "${name}"`, { path: image.label });
  const bits = image.readBitmap(name);
  const { granularity } = info;
  const isSet = (i: number) => (bits[i >> 3]! >> (i & 7)) & 1;
  const last = Math.floor((start + size - 1) / granularity);
  return {
    name: `${DIRTY_BITMAP}${name}`,
    status(offset, length) {
      const first = Math.floor((start + offset) / granularity);
      const flags = isSet(first);
      let i = first + 1;
      const stop = Math.min(last, Math.floor((start + offset + length - 1) / granularity));
      while (i <= stop && isSet(i) === flags) i++;
      return { length: Math.min(length, i * granularity - start - offset), flags };
    },
  };
}

/** Formats that mark blocks as zero, and files in which holes can be punched. */
function zeroesFast(image: Image): boolean {
  if (image.format === 'qcow2') return true;
  return image.format === 'raw' && image.file instanceof WritableFileSource && hasSysio();
}

/**
 * A raw image whose format was guessed.  A guest that wrote the header of another format to its first sectors could name
 * any file of the host as backing file, and the next guess would believe it.
 */
class RawGuard implements WritableSource {
  readonly label: string;
  readonly size: number;
  readonly sectorSize: number;
  constructor(private readonly below: Image & WritableSource) {
    this.label = below.label;
    this.size = below.size;
    this.sectorSize = below.sectorSize;
  }
  read(into: Uint8Array, offset: number): void {
    this.below.read(into, offset);
  }
  map(offset: number, length: number) {
    return this.below.map(offset, length);
  }
  write(from: Uint8Array, offset: number): void {
    if (offset < HEAD && from.length > 0) {
      const head = new Uint8Array(Math.min(HEAD, this.size));
      this.below.read(head, 0);
      head.set(from.subarray(0, head.length - offset), offset);
      const found = probeFormat({
        label: this.label,
        size: head.length,
        sectorSize: this.sectorSize,
        read: (into, at) => into.set(head.subarray(at, at + into.length)),
        map: (_, length) => ({ kind: 'computed', length }),
        close() {},
      });
      if (found.name !== 'raw')
        throw new GuestError(
          'denied',
          `the first sectors would look like a ${found.name} image (give the format, -f raw, to allow it)`,
          { path: this.label },
        );
    }
    this.below.write(from, offset);
  }
  zero(offset: number, length: number): void {
    this.below.zero(offset, length);
  }
  discard(offset: number, length: number): void {
    this.below.discard?.(offset, length);
  }
  flush(): void {
    this.below.flush();
  }
  close(): void {}
}
const HEAD = 2048;
