import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFile, openFile, openFileWritable } from '../../lib/block/file.js';
import type { BlockSource } from '../../lib/block/source.js';
import { isWritable } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import type { CreateContext, CreateOptions, Image, ImageFormat, OpenContext, WritableImage } from '../../lib/image/format.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

/** Opens an image and what it refers to, references taken beside it; all files are closed with it. */
export function openImage(format: ImageFormat, path: string, options: Partial<OpenContext> = {}): Image {
  const file = options.writable ? openFileWritable(path) : openFile(path);
  const opened: BlockSource[] = [];
  try {
    const image = format.open(file, {
      writable: false,
      path,
      openReference: (reference) => {
        const target = isAbsolute(reference.name) ? reference.name : join(dirname(path), reference.name);
        const source =
          reference.role === 'backing' && reference.format !== 'raw'
            ? openImage(format, target, { noBacking: options.noBacking ?? false })
            : reference.writable
              ? openFileWritable(target)
              : openFile(target);
        opened.push(source);
        return source;
      },
      ...options,
    });
    const close = image.close.bind(image);
    image.close = () => {
      close();
      file.close();
    };
    return image;
  } catch (e) {
    for (const s of opened) s.close();
    file.close();
    throw e;
  }
}

export function openWritableImage(format: ImageFormat, path: string): WritableImage {
  const image = openImage(format, path, { writable: true });
  if (!isWritable(image)) throw new Error(`${path} opened without writing`);
  return image as WritableImage;
}

export function createImage(format: ImageFormat, path: string, options: CreateOptions, more: Partial<CreateContext> = {}): void {
  const file = createFile(path);
  const siblings: BlockSource[] = [];
  try {
    format.create!(file, options, {
      path,
      createSibling: (name) => {
        const s = createFile(join(dirname(path), name));
        siblings.push(s);
        return s;
      },
      ...more,
    });
  } finally {
    for (const s of siblings) s.close();
    file.close();
  }
}

/** SHA-256 of all the guest sees, read in odd pieces. */
export function sha256Of(source: BlockSource): string {
  const h = createHash('sha256');
  const b = new Uint8Array(3 * 1024 * 1024 + 512);
  for (let at = 0; at < source.size; at += b.length) {
    const part = b.subarray(0, Math.min(b.length, source.size - at));
    source.read(part, at);
    h.update(part);
  }
  return h.digest('hex');
}

/** What the image says about its runs agrees with its bytes: they tile the disk, zero runs are zero, host runs hold the bytes. */
export function expectRunsAgree(image: Image): void {
  for (const ask of ['map', 'extent'] as const) {
    let at = 0;
    let calls = 0;
    while (at < image.size) {
      const left = image.size - at;
      const r = ask === 'map' ? image.map(at, left) : image.extent(at, left);
      expect(r.length, `${ask} at ${at}`).toBeGreaterThan(0);
      expect(r.length, `${ask} at ${at}`).toBeLessThanOrEqual(left);
      const zero = 'kind' in r ? r.kind === 'zero' : r.zero;
      const n = Math.min(r.length, 1 << 20);
      for (const start of new Set([at, at + r.length - n])) {
        const bytes = new Uint8Array(n);
        image.read(bytes, start);
        if (zero)
          expect(
            bytes.some((x) => x !== 0),
            `${ask}: zero run at ${start} has other bytes`,
          ).toBe(false);
      }
      at += r.length;
      if (++calls > 100_000) throw new Error('too many runs');
    }
    expect(at).toBe(image.size);
  }
}

/** A generator of repeatable numbers. */
export function seeded(seed: number): (below: number) => number {
  let s = seed >>> 0 || 1;
  return (below) => {
    s ^= s << 13;
    s >>>= 0;
    s ^= s >>> 17;
    s ^= s << 5;
    s >>>= 0;
    return s % below;
  };
}

export interface ImageCase {
  readonly name: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** Bytes asked for; formats of whole cylinders may give a little more. */
  readonly size?: number;
  readonly ending?: string;
  /** qemu-img has no check for this format or kind. */
  readonly noCheck?: boolean;
  /** qemu-io cannot write this kind in place (compressed): it is made by qemu-img convert instead. */
  readonly appendOnly?: boolean;
}

const options = (settings: Readonly<Record<string, string>> | undefined): string[] => {
  const s = Object.entries(settings ?? {}).map(([k, v]) => `${k}=${v}`);
  return s.length === 0 ? [] : ['-o', s.join(',')];
};

/** The same cases for every format that can be written, held against qemu-img and qemu-io in both directions. */
export function imageSuite(format: ImageFormat, cases: readonly ImageCase[]): void {
  for (const c of cases)
    describe(`${format.name}, ${c.name}`, () => {
      const dir = temporaryFolder();
      const size = c.size ?? 20 * 2 ** 20 + 512 * 7;
      let count = 0;
      const place = (): string => {
        const folder = join(dir, `${++count}`);
        mkdirSync(folder);
        return join(folder, `disk.${c.ending ?? format.extensions[0]}`);
      };
      /** Random writes as qemu-io commands and as model. */
      const writes = (seed: number, disk: number) => {
        const random = seeded(seed);
        const list: { at: number; length: number; value: number }[] = [];
        for (let i = 0; i < 24; i++) {
          const length = 512 * (1 + random(i % 4 === 0 ? 9000 : 200));
          const at = 512 * random(Math.max(1, Math.floor((disk - length) / 512)));
          list.push({ at, length, value: random(5) === 0 ? 0 : 1 + random(255) });
        }
        return list;
      };
      const apply = (model: Uint8Array, list: ReturnType<typeof writes>) => {
        for (const w of list) model.fill(w.value, w.at, w.at + w.length);
      };
      const sha = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');

      itNeeds('qemu-img', 'qemu-io')('reads what qemu wrote at random', () => {
        const path = place();
        const raw = join(dirname(path), 'model.raw');
        run('qemu-img', ['create', '-q', '-f', format.name, ...options(c.settings), path, `${size}`]);
        const disk = JSON.parse(run('qemu-img', ['info', '--output=json', '-f', format.name, path]))['virtual-size'];
        const model = new Uint8Array(disk);
        const list = writes(7, disk);
        apply(model, list);
        const args = (f: string, p: string) => [
          '-f',
          f,
          ...list.flatMap((w) => ['-c', `write -P ${w.value} ${w.at} ${w.length}`]),
          p,
        ];
        if (c.appendOnly) {
          run('qemu-img', ['create', '-q', '-f', 'raw', raw, `${disk}`]);
          run('qemu-io', args('raw', raw));
          run('qemu-img', ['convert', '-f', 'raw', '-O', format.name, ...options(c.settings), raw, path]);
        } else run('qemu-io', args(format.name, path));
        const image = openImage(format, path);
        try {
          expect(image.size).toBe(disk);
          expect(sha256Of(image)).toBe(sha(model));
          expectRunsAgree(image);
          if (image.check !== undefined) expect(image.check().problems).toEqual([]);
        } finally {
          image.close();
        }
      });

      itNeeds('qemu-img', 'qemu-io')('makes images of the size qemu-img makes, and qemu reads what we wrote at random', () => {
        const path = place();
        const theirs = place();
        createImage(format, path, { size, ...(c.settings === undefined ? {} : { settings: c.settings }) });
        run('qemu-img', ['create', '-q', '-f', format.name, ...options(c.settings), theirs, `${size}`]);
        const info = (p: string) => JSON.parse(run('qemu-img', ['info', '--output=json', '-f', format.name, p]));
        const disk = info(theirs)['virtual-size'];
        expect(info(path)['virtual-size']).toBe(disk);
        expect(info(path)['cluster-size']).toBe(info(theirs)['cluster-size']);
        expect(readdirSync(dirname(path)).sort()).toEqual(readdirSync(dirname(theirs)).sort());
        const model = new Uint8Array(disk);
        // Written in two sessions, so that the second one finds blocks of the first.
        for (const seed of [11, 12]) {
          const image = openWritableImage(format, path);
          try {
            const list = writes(seed, disk);
            apply(model, list);
            for (const w of list) {
              if (w.value === 0 && seed === 12) image.zero(w.at, w.length);
              else image.write(new Uint8Array(w.length).fill(w.value), w.at);
              const back = new Uint8Array(w.length);
              image.read(back, w.at);
              expect(back.every((x) => x === w.value)).toBe(true);
            }
            image.flush();
            expect(sha256Of(image)).toBe(sha(model));
          } finally {
            image.close();
          }
        }
        const raw = join(dirname(path), 'out.raw');
        if (!c.noCheck) run('qemu-img', ['check', '-f', format.name, path]);
        run('qemu-img', ['convert', '-f', format.name, '-O', 'raw', path, raw]);
        const back = openFile(raw);
        expect(sha256Of(back)).toBe(sha(model));
        back.close();
        const again = openImage(format, path);
        expect(sha256Of(again)).toBe(sha(model));
        expectRunsAgree(again);
        if (again.check !== undefined) expect(again.check().problems).toEqual([]);
        again.close();
        if (c.appendOnly) return;
        // And qemu goes on where we stopped.
        const more = writes(13, disk);
        apply(model, more);
        run('qemu-io', ['-f', format.name, ...more.flatMap((w) => ['-c', `write -P ${w.value} ${w.at} ${w.length}`]), path]);
        const last = openImage(format, path);
        expect(sha256Of(last)).toBe(sha(model));
        last.close();
      });

      it('refuses what is outside, and reading changes nothing', () => {
        const path = place();
        createImage(format, path, { size, ...(c.settings === undefined ? {} : { settings: c.settings }) });
        const copy = `${path}.copy`;
        copyFileSync(path, copy);
        const image = openImage(format, path);
        try {
          expect(isWritable(image)).toBe(false);
          for (const [at, n] of [
            [image.size, 1],
            [image.size - 1, 2],
            [-1, 1],
            [0.5, 1],
          ] as const) {
            expect(() => image.read(new Uint8Array(n), at)).toThrow(GuestError);
            expect(() => image.map(at, n)).toThrow(GuestError);
            expect(() => image.extent(at, n)).toThrow(GuestError);
          }
          const last = new Uint8Array(512).fill(1);
          image.read(last, image.size - 512);
          expect(last.every((x) => x === 0)).toBe(true);
          expect(image.describe().virtualSize).toBe(image.size);
        } finally {
          image.close();
          image.close();
        }
        const a = openFile(path);
        const b = openFile(copy);
        expect(sha256Of(a)).toBe(sha256Of(b));
        a.close();
        b.close();
        const w = openWritableImage(format, path);
        expect(() => w.write(new Uint8Array(2), w.size - 1)).toThrow(GuestError);
        expect(() => w.zero(w.size, 1)).toThrow(GuestError);
        w.close();
      });
    });
}
