import { dirname, resolve } from 'node:path';
import { createFile, openFileWritable } from '../../lib/block/file.js';
import type { CreateContext, Image } from '../../lib/image/format.js';
import { openImage } from '../../lib/image/open.js';
import { qcow2, type WritableQcow2Image } from '../../lib/image/qcow2/index.js';
import { run } from '../helpers/needs.js';

/** xorshift: the same bytes for the same seed. */
export function random(seed: number): () => number {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x;
  };
}
export const below = (r: () => number, n: number): number => r() % n;

export function makeQcow2(
  path: string,
  size: number,
  settings: Readonly<Record<string, string>> = {},
  more: { readonly backing?: { name: string; format: string }; readonly secret?: string } = {},
): void {
  const file = createFile(path);
  const context: CreateContext = {
    path,
    createSibling: (name) => createFile(resolve(dirname(path), name)),
    ...(more.secret === undefined ? {} : { secret: () => new TextEncoder().encode(more.secret) }),
  };
  qcow2.create!(file, { size, settings, ...(more.backing === undefined ? {} : { backing: more.backing }) }, context);
  file.close();
}
export const openRw = (path: string, secret?: string): WritableQcow2Image =>
  openImage(path, {
    writable: true,
    ...(secret === undefined ? {} : { secret: () => new TextEncoder().encode(secret) }),
  }) as unknown as WritableQcow2Image;

export function all(image: Image): Uint8Array {
  const b = new Uint8Array(image.size);
  if (b.length > 0) image.read(b, 0);
  return b;
}

/** Random operations on an image and on plain bytes. */
export function mutate(image: WritableQcow2Image, model: Uint8Array, r: () => number, steps: number): void {
  for (let i = 0; i < steps; i++) {
    const kind = below(r, 10);
    const offset = below(r, model.length);
    const length = Math.min(model.length - offset, 1 + below(r, below(r, 3) === 0 ? 300_000 : 9000));
    if (kind < 6) {
      const data = new Uint8Array(length);
      for (let k = 0; k < length; k++) data[k] = r();
      image.write(data, offset);
      model.set(data, offset);
    } else if (kind < 8) {
      image.zero(offset, length);
      model.fill(0, offset, offset + length);
    } else if (kind < 9 && image.backing === undefined) {
      image.discard(offset, length);
      // Discarded clusters read as zeroes, those at the edges keep their bytes.
      const now = new Uint8Array(length);
      image.read(now, offset);
      for (let k = 0; k < length; k++)
        if (now[k] !== 0 && now[k] !== model[offset + k]) throw new Error(`discard changed byte ${offset + k}`);
      model.set(now, offset);
    } else image.flush();
  }
}

export interface QemuCheck {
  readonly corruptions: number;
  readonly leaks: number;
  readonly json: Record<string, number>;
}
export function qemuCheck(path: string, image: readonly string[] = [path]): QemuCheck {
  const json = JSON.parse(run('qemu-img', ['check', '--output=json', ...image], { ok: [0, 2, 3] })) as Record<string, number>;
  return { corruptions: json['corruptions'] ?? 0, leaks: json['leaks'] ?? 0, json };
}
export function qemuRaw(path: string, out: string, extra: readonly string[] = []): Uint8Array {
  run('qemu-img', ['convert', ...extra, '-O', 'raw', path, out]);
  const f = openFileWritable(out);
  const b = new Uint8Array(f.size);
  if (b.length > 0) f.read(b, 0);
  f.close();
  return b;
}
