import { existsSync, statSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { FileSource } from '../../block/file.js';
import { GuestError } from '../../core/errors.js';
import { besideImage } from '../../image/create.js';
import type { Image, ImageInfo } from '../../image/format.js';
import { parseFileName } from '../../image/reference.js';
import { type ImageSpec, openSpec, type SpecOptions } from './spec.js';

/** One image of a chain, as `qemu-img info` shows it. */
export interface ChainInfo {
  readonly filename: string;
  readonly info: ImageInfo;
  /** Host bytes that the image's file uses. */
  readonly actualSize?: number | undefined;
  readonly fullBackingName?: string | undefined;
}

/** The image, and with `chain` those below it. */
export function imageChain(spec: ImageSpec, options: SpecOptions & { readonly chain?: boolean }): ChainInfo[] {
  const { chain, ...rest } = options;
  const list: ChainInfo[] = [];
  const seen = new Set<string>();
  for (let next: ImageSpec | undefined = spec; next !== undefined; ) {
    if (seen.has(next.name)) throw new GuestError('corrupt', `the backing chain of ${spec.name} comes back to ${next.name}`);
    seen.add(next.name);
    const image = openSpec(next, { ...rest, noBacking: true });
    try {
      const one = describe(next.name, image);
      list.push(one);
      const below: string | undefined = one.info.backingName;
      next =
        !chain || below === undefined
          ? undefined
          : { name: one.fullBackingName ?? below, format: one.info.backingFormat, keySecret: spec.keySecret };
    } finally {
      image.close();
    }
  }
  return list;
}

function describe(filename: string, image: Image): ChainInfo {
  const info = image.describe();
  const { file } = image;
  const actualSize = file instanceof FileSource ? allocated(file.path, info, filename) : undefined;
  return {
    filename,
    info,
    actualSize,
    ...(info.backingName === undefined ? {} : { fullBackingName: fullName(filename, info.backingName) }),
  };
}

/** Extents in files of their own count too. */
function allocated(path: string, info: ImageInfo, filename: string): number {
  let n = statSync(path).blocks * 512;
  if (info.format === 'vmdk')
    for (const e of info.extentFiles ?? []) {
      const at = existsSync(e) ? e : besideImage(filename, e);
      if (existsSync(at)) n += statSync(at).blocks * 512;
    }
  return n;
}

/** As QEMU builds it: the image's folder and the stored name, joined as text. */
function fullName(filename: string, backing: string): string {
  const parsed = parseFileName(backing);
  if (parsed.kind === 'remote' || isAbsolute(parsed.name) || backing.startsWith('json:')) return backing;
  const slash = filename.lastIndexOf('/');
  return slash < 0 ? parsed.name : filename.slice(0, slash + 1) + parsed.name;
}
