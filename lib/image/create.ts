import { dirname, isAbsolute, resolve } from 'node:path';
import { createFile } from '../block/file.js';
import type { ResizableSource } from '../block/source.js';
import { unsupported } from '../core/errors.js';
import type { CreateContext, CreateOptions } from './format.js';
import { openImage } from './open.js';
import { parseFileName } from './reference.js';
import { formatByName } from './registry.js';

export interface CreatePlace {
  /** The name that the image will have: for references between its files. */
  readonly path: string;
  /** Makes a further file (VMDK extents, qcow2 data file); without it, beside `path`. */
  readonly createSibling?: (name: string) => ResizableSource;
  readonly secret?: () => Uint8Array | undefined;
}

/** A name stored in the image at `path`, as this process reaches it. */
export function besideImage(path: string, name: string): string {
  const parsed = parseFileName(name);
  return parsed.kind === 'remote' || isAbsolute(parsed.name) ? name : resolve(dirname(path), parsed.name);
}

/** Writes an empty image of a format into `file`. */
export function createImage(file: ResizableSource, formatName: string, options: CreateOptions, place: CreatePlace): void {
  const format = formatByName(formatName);
  if (format.create === undefined) throw unsupported(`${format.name} images cannot be made`);
  const { backing } = options;
  const context: CreateContext = {
    path: place.path,
    createSibling: place.createSibling ?? ((name) => createFile(besideImage(place.path, name))),
    ...(backing === undefined
      ? {}
      : {
          openBacking: () =>
            openImage(besideImage(place.path, backing.name), { format: backing.format, noBacking: true, forceShare: true }),
        }),
    ...(place.secret === undefined ? {} : { secret: place.secret }),
  };
  format.create(file, options, context);
}
