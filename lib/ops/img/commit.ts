import { resolve } from 'node:path';
import type { BlockSource } from '../../block/source.js';
import { GuestError, unsupported, usage } from '../../core/errors.js';
import { besideImage } from '../../image/create.js';
import type { Image, WritableImage } from '../../image/format.js';
import { openImage } from '../../image/open.js';
import { WritableQcow2Image } from '../../image/qcow2/index.js';
import { imageChain } from './info.js';
import type { Secrets } from './secrets.js';
import { type ImageSpec, openSpec, openSpecWritable } from './spec.js';

const STEP = 4 << 20;

export interface CommitOptions {
  readonly image: ImageSpec;
  readonly secrets: Secrets;
  /** The image below to merge into; the backing file unless said. */
  readonly base?: string | undefined;
  /** Leaves the overlay as it is. */
  readonly drop?: boolean;
  readonly rate?: number | undefined;
}

/** Writes what an overlay has into an image below it. */
export function* commit(o: CommitOptions): Generator<{ done: number; total: number }> {
  const chain = imageChain(o.image, { chain: true, secrets: o.secrets });
  if (chain.length < 2) throw usage('the image does not have a backing file');
  const depth = o.base === undefined ? 1 : findBase(chain, o.image.name, o.base);
  const base = chain[depth]!;
  // The whole chain is read without locks; the overlay and the base are held by those that change them.
  const own = openSpecWritable(o.image, { secrets: o.secrets, noBacking: true });
  let view: Image | undefined;
  let target: WritableImage | undefined;
  try {
    target = openImage(base.filename, { format: base.info.format, writable: true, references: 'any' });
    view = openSpec(o.image, { secrets: o.secrets, forceShare: true });
    if (target.size < view.size) grow(target, view.size, base.filename);
    const begin = Date.now();
    let moved = 0;
    const buffer = new Uint8Array(STEP);
    for (let at = 0; at < view.size; ) {
      const e = view.extent(at, view.size - at);
      const here = e.present && e.depth < depth;
      if (!here) {
        // A layer between that is shorter hides what the base has there.
        if (!e.present && depth > 1) target.zero(at, e.length);
        at += e.length;
        yield { done: at, total: view.size };
        continue;
      }
      const n = Math.min(e.length, e.zero ? e.length : STEP);
      if (e.zero) target.zero(at, n);
      else {
        const part = buffer.subarray(0, n);
        view.read(part, at);
        target.write(part, at);
        moved += n;
      }
      at += n;
      for (let left = o.rate ? begin + (moved / o.rate) * 1000 - Date.now() : 0; left > 0; left -= 50) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(left, 50));
        yield { done: at, total: view.size };
      }
      yield { done: at, total: view.size };
    }
    target.flush();
    view.close();
    view = undefined;
    if (!o.drop) {
      if (!(own instanceof WritableQcow2Image))
        throw unsupported(`a ${own.format} image cannot be emptied (-d leaves it as it is)`);
      own.makeEmpty();
    }
  } finally {
    view?.close();
    target?.close();
    own.close();
  }
}

function findBase(chain: readonly { readonly filename: string }[], top: string, base: string): number {
  const wanted = [resolve(base), resolve(besideImage(top, base))];
  const depth = chain.findIndex((c, i) => i > 0 && wanted.includes(resolve(c.filename)));
  if (depth < 0) throw new GuestError('not-found', `did not find "${base}" in the backing chain of "${top}"`);
  return depth;
}

function grow(target: WritableImage & Partial<{ resize(size: number): void }>, size: number, name: string): void {
  const { resize } = target as Partial<{ resize(size: number): void }> & BlockSource;
  if (resize === undefined) throw unsupported(`${name} is smaller than the overlay, and ${target.format} images cannot be grown`);
  resize.call(target, size);
}
