import type { BlockSource } from '../../block/source.js';
import { Concat } from '../../block/window.js';
import { GuestError, unsupported, usage } from '../../core/errors.js';
import { parseSize } from '../../core/size.js';
import { besideImage, createImage } from '../../image/create.js';
import type { Image, WritableImage } from '../../image/format.js';
import { WritableMappedImage } from '../../image/mapped.js';
import { openImage } from '../../image/open.js';
import { Qcow2Image, WritableQcow2Image } from '../../image/qcow2/index.js';
import { copyDisk } from './copy.js';
import { StagedOutput } from './output.js';
import { forgetFiles } from './same.js';
import type { Secrets } from './secrets.js';
import { type ImageSpec, openSpec, openSpecWritable } from './spec.js';

export interface ConvertOptions {
  readonly sources: readonly ImageSpec[];
  readonly target: ImageSpec;
  readonly format: string;
  /** `-o` settings. */
  readonly settings: Readonly<Record<string, string>>;
  readonly backing?: { readonly name: string; readonly format?: string | undefined } | undefined;
  readonly secrets: Secrets;
  readonly snapshot?: string | undefined;
  readonly sparseSize?: number | undefined;
  readonly compress?: boolean;
  /** The target exists and is written as it is. */
  readonly existing?: boolean;
  readonly targetIsZero?: boolean;
  readonly bitmaps?: boolean;
  readonly skipBrokenBitmaps?: boolean;
  readonly forceShare?: boolean;
  readonly rate?: number | undefined;
  readonly salvage?: ((offset: number, length: number) => void) | undefined;
  readonly warn?: (text: string) => void;
  /** All on stable storage at the end. */
  readonly sync?: boolean;
  /** A part of the sources: what `dd` asks for. */
  readonly range?: ((size: number) => { readonly offset: number; readonly length: number }) | undefined;
}

export interface Step {
  readonly done: number;
  readonly total: number;
}

/** Copies images into a new one, or an existing one; a caller that stops early leaves a new target as it was before. */
export function* convert(o: ConvertOptions): Generator<Step> {
  const open: { close(): void }[] = [];
  let staged: StagedOutput | undefined;
  forgetFiles();
  try {
    const images = o.sources.map((s) => {
      const image = openSpec(s, { secrets: o.secrets, forceShare: o.forceShare === true });
      open.push(image);
      return image;
    });
    if (images.length === 0) throw usage('no image to convert');
    if (o.snapshot !== undefined && images.length > 1) throw usage('no support for concatenating multiple snapshots');
    if (o.bitmaps && images.length > 1) throw usage('bitmaps can be copied from a single source only');
    const disks: BlockSource[] = o.snapshot === undefined ? images : [openSnapshotOf(images[0]!, o.snapshot)];
    let source = disks.length === 1 ? disks[0]! : new Concat(disks, 'the sources');
    if (o.range !== undefined) source = part(source, o.range(source.size));
    const bitmaps = o.bitmaps ? bitmapsOf(images[0]!, o) : [];

    let target: WritableImage;
    let below: BlockSource | undefined;
    if (o.existing) target = openSpecWritable(o.target, { secrets: o.secrets });
    else {
      staged = new StagedOutput(o.target.name);
      target = createTarget(o, staged, source.size);
    }
    open.push(target);
    if (target.size < source.size) throw usage(`the output of ${target.size} bytes is smaller than the input of ${source.size}`);
    if (o.bitmaps && !(target instanceof WritableQcow2Image)) throw usage('the output format has no bitmaps');
    if (target.backing !== undefined && (o.backing !== undefined || o.settings['backing_file'] !== undefined))
      below = target.backing;
    const packed = target instanceof WritableMappedImage && target.packedBlockSize !== undefined;
    const zeroed = below === undefined && (o.existing ? o.targetIsZero === true : target.backing === undefined);
    for (const done of copyDisk(source, target, {
      zeroed,
      compress: o.compress === true || packed,
      below,
      rate: o.rate,
      salvage: o.salvage,
      ...(o.sparseSize === undefined ? {} : { sparseSize: o.sparseSize }),
    }))
      yield { done, total: source.size };
    // An overlay that is longer than its source, over a longer backing file: what shows through is not the source's.
    if (below !== undefined && target.size > source.size) target.zero(source.size, target.size - source.size);
    for (const b of bitmaps) {
      const t = target as WritableQcow2Image;
      t.addBitmap(b.name, { granularity: b.granularity, disabled: !b.enabled });
      t.mergeBitmap(b.name, { bits: b.bits, granularity: b.granularity });
    }
    if (o.existing && o.sync) target.flush();
    open.pop();
    target.close();
    staged?.finish(o.sync === true);
    yield { done: source.size, total: source.size };
  } catch (e) {
    staged?.discard();
    staged = undefined;
    throw e;
  } finally {
    for (const x of open.reverse())
      try {
        x.close();
      } catch {
        // The error that ended the job is the one to tell.
      }
    // A caller that stopped listening: nothing was finished.
    staged?.discard();
  }
}

function createTarget(o: ConvertOptions, staged: StagedOutput, sourceSize: number): WritableImage {
  const settings: Record<string, string> = { ...o.settings };
  const name = o.backing?.name ?? settings['backing_file'];
  const backingFormat = o.backing?.format ?? settings['backing_fmt'];
  const size = settings['size'] === undefined ? sourceSize : parseSize(settings['size'], 'size');
  delete settings['backing_file'];
  delete settings['backing_fmt'];
  delete settings['size'];
  if (name !== undefined && backingFormat === undefined)
    throw usage(`the format of backing file "${name}" must be given (-F FORMAT)`);
  const keyId = settings['encrypt.key-secret'];
  const secret = keyId === undefined ? undefined : () => o.secrets.get(keyId);
  createImage(
    staged.file,
    o.format,
    { size, settings, ...(name === undefined ? {} : { backing: { name, format: backingFormat! } }) },
    { path: o.target.name, createSibling: staged.createSibling, ...(secret === undefined ? {} : { secret }) },
  );
  const target = openImage(staged.file, {
    format: o.format,
    writable: true,
    references: 'any',
    forceShare: true,
    openFile: staged.opener,
    ...(secret === undefined ? {} : { secret }),
  });
  // Thrown away when the job fails, so that no order of writes has to be kept.
  if (target instanceof WritableQcow2Image) target.barriers = false;
  return target;
}

function part(source: BlockSource, range: { readonly offset: number; readonly length: number }): BlockSource {
  return {
    label: source.label,
    size: range.length,
    sectorSize: source.sectorSize,
    read: (into, at) => source.read(into, range.offset + at),
    map: (at, length) => source.map(range.offset + at, length),
    close() {},
  };
}

/** "snapshot.id=…,snapshot.name=…", or an id or name. */
export function openSnapshotOf(image: Image, wanted: string): BlockSource {
  if (!(image instanceof Qcow2Image)) throw unsupported(`${image.label}: ${image.format} images have no internal snapshots`);
  const m = /^snapshot\.(id|name)=/.exec(wanted);
  if (m === null) return image.openSnapshot(wanted);
  const want = new Map(wanted.split(',').map((p) => p.split('=', 2) as [string, string]));
  const found = image.snapshots.find(
    (s) =>
      (!want.has('snapshot.id') || want.get('snapshot.id') === s.id) &&
      (!want.has('snapshot.name') || want.get('snapshot.name') === s.name),
  );
  if (found === undefined) throw new GuestError('not-found', `${image.label} has no snapshot ${wanted}`);
  return image.openSnapshot(found.id);
}

interface CopiedBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly bits: Uint8Array;
}

function bitmapsOf(image: Image, o: ConvertOptions): CopiedBitmap[] {
  if (!(image instanceof Qcow2Image)) throw usage(`${image.label}: ${image.format} images have no bitmaps`);
  return image.bitmaps.flatMap((b) => {
    if (!b.inUse) return [{ ...b, bits: image.readBitmap(b.name) }];
    if (!o.skipBrokenBitmaps)
      throw new GuestError('corrupt', `${image.label}: bitmap "${b.name}" is inconsistent (--skip-broken-bitmaps leaves it out)`);
    o.warn?.(`warning: skipping inconsistent bitmap "${b.name}"`);
    return [];
  });
}

/** For commands that need the path of a reference. */
export { besideImage };
