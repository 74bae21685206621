import type { BlockSource } from '../../block/source.js';
import { unsupported, usage } from '../../core/errors.js';
import { besideImage } from '../../image/create.js';
import type { Image } from '../../image/format.js';
import { openImage } from '../../image/open.js';
import { WritableQcow2Image } from '../../image/qcow2/index.js';
import { probeFormat } from '../../image/registry.js';
import { forgetFiles, sameRun } from './same.js';
import type { Secrets } from './secrets.js';
import { type ImageSpec, openSpecWritable } from './spec.js';

const STEP = 1 << 20;

export interface RebaseOptions {
  readonly image: ImageSpec;
  readonly secrets: Secrets;
  /** As it will be stored; empty: the image stands alone. */
  readonly backing: string;
  readonly format?: string | undefined;
  /** The old and the new backing file have the same contents: only the name changes. */
  readonly unsafe?: boolean;
  readonly forceShare?: boolean;
  /** What is written is stored compressed. */
  readonly compress?: boolean;
}

/** Gives an image another backing file, its contents staying as they are. */
export function* rebase(o: RebaseOptions): Generator<{ done: number; total: number }> {
  const top = openSpecWritable(o.image, { secrets: o.secrets, ...(o.unsafe ? { noBacking: true } : {}) });
  let next: Image | undefined;
  try {
    if (!(top instanceof WritableQcow2Image)) throw unsupported(`the backing file of ${top.format} images cannot be changed`);
    if (o.backing !== '' && o.format === undefined)
      throw usage(`could not change the backing file to "${o.backing}": its format must be given (-F FORMAT)`);
    if (!o.unsafe) {
      if (o.backing !== '')
        next = openImage(besideImage(o.image.name, o.backing), {
          format: o.format!,
          references: 'any',
          forceShare: o.forceShare === true,
        });
      yield* keepContents(top, next, o.compress === true);
    } else if (o.backing !== '' && o.format !== undefined) checkFormat(o.format);
    top.changeBacking(o.backing === '' ? undefined : o.backing, o.backing === '' ? undefined : o.format);
  } finally {
    next?.close();
    top.close();
  }
}

function checkFormat(name: string): void {
  if (/\s/.test(name)) throw usage(`"${name}" is not an image format`);
}

/** What the old backing file has and the new one has not goes into the image. */
function* keepContents(
  top: WritableQcow2Image,
  next: Image | undefined,
  compress: boolean,
): Generator<{ done: number; total: number }> {
  const old = top.backing;
  const total = top.size;
  const none: BlockSource = {
    label: 'nothing',
    size: 0,
    sectorSize: 512,
    read() {},
    map: (_o, length) => ({ kind: 'zero', length }),
    close() {},
  };
  const before = old ?? none;
  const after = next ?? none;
  const mine = new Uint8Array(STEP);
  const theirs = new Uint8Array(STEP);
  const unit = top.clusterSize;
  forgetFiles();
  for (let at = 0; at < total; ) {
    const e = top.extent(at, total - at);
    // Only what is neither here nor zero by this layer shows the backing file.
    if (e.present && e.depth === 0) {
      at += e.length;
      continue;
    }
    const end = at + e.length;
    while (at < end) {
      const same = sameRun(before, after, at, end - at);
      if (same > 0) {
        at += same;
        yield { done: at, total };
        continue;
      }
      const n = Math.min(Math.max(unit, STEP - (at % unit)), end - at, STEP);
      readPadded(before, mine.subarray(0, n), at);
      readPadded(after, theirs.subarray(0, n), at);
      writeDifferences(top, mine.subarray(0, n), theirs.subarray(0, n), at, compress);
      at += n;
      yield { done: at, total };
    }
  }
  top.flush();
}

function readPadded(source: BlockSource, into: Uint8Array, at: number): void {
  const inside = Math.max(0, Math.min(into.length, source.size - at));
  if (inside > 0) source.read(into.subarray(0, inside), at);
  into.fill(0, inside);
}

function writeDifferences(top: WritableQcow2Image, mine: Uint8Array, theirs: Uint8Array, at: number, compress: boolean): void {
  const unit = top.clusterSize;
  for (let k = 0; k < mine.length; ) {
    const stop = Math.min(mine.length, k + unit - ((at + k) % unit));
    if (Buffer.compare(mine.subarray(k, stop), theirs.subarray(k, stop)) !== 0) {
      const part = mine.subarray(k, stop);
      if (compress && part.length === unit) top.writeCompressed(part, at + k);
      else if (part.every((x) => x === 0)) top.zero(at + k, part.length);
      else top.write(part, at + k);
    }
    k = stop;
  }
}

/** The format of a file that a command named without one. */
export const probedName = (file: BlockSource): string => probeFormat(file).name;
