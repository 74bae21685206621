import { openFile, openFileWritable } from '../../block/file.js';
import { HttpSource } from '../../block/http.js';
import { window } from '../../block/window.js';
import { unsupported, usage } from '../../core/errors.js';
import { parseSize } from '../../core/size.js';
import type { Image, WritableImage } from '../../image/format.js';
import { type OpenImageOptions, openImage, type SourceOpener } from '../../image/open.js';
import { findFormat } from '../../image/registry.js';
import { flattenJson, parseOptions } from './options.js';
import type { Secrets } from './secrets.js';

/** An image as a command line names it: a path or address, or an option string. */
export interface ImageSpec {
  readonly name: string;
  readonly format?: string | undefined;
  /** Id of the secret that opens it. */
  readonly keySecret?: string | undefined;
  /** A part of the file (raw). */
  readonly offset?: number | undefined;
  readonly length?: number | undefined;
}

const IGNORED = /^(file\.)?(locking|aio|cache\..*|read-only|auto-read-only|discard|detect-zeroes|node-name|force-share|pin-fd)$/;

/** What `--image-opts` (or a "json:" name) says. */
function fromOptions(o: ReadonlyMap<string, string>, given: string): ImageSpec {
  const driver = o.get('driver');
  const protocol = driver === 'file' || driver === 'host_device' || driver === 'http' || driver === 'https';
  const inner = o.get('file.driver');
  if (inner !== undefined && !['file', 'host_device', 'http', 'https'].includes(inner))
    throw unsupported(`${given}: protocol "${inner}" is not supported (file, host_device, http, https)`);
  const key = inner === 'http' || inner === 'https' ? 'file.url' : 'file.filename';
  const name = protocol ? (o.get('filename') ?? o.get('url')) : (o.get(key) ?? o.get('file.filename') ?? o.get('filename'));
  if (name === undefined) throw usage(`${given}: it names no file (file.filename=…)`);
  if (!protocol && driver !== undefined && findFormat(driver) === undefined)
    throw unsupported(`${given}: unknown driver "${driver}"`);
  const known = [
    'driver',
    'filename',
    'url',
    'file.driver',
    'file.filename',
    'file.url',
    'encrypt.key-secret',
    'encrypt.format',
    'key-secret',
    'offset',
    'size',
    'lazy-refcounts',
  ];
  for (const k of o.keys())
    if (!known.includes(k) && !IGNORED.test(k)) throw unsupported(`${given}: option "${k}" is not supported`);
  const number = (k: string) => (o.has(k) ? parseSize(o.get(k)!, k) : undefined);
  return {
    name,
    format: protocol ? 'raw' : driver,
    keySecret: o.get('encrypt.key-secret') ?? o.get('key-secret'),
    offset: number('offset'),
    length: number('size'),
  };
}

export function parseImageSpec(
  text: string,
  options: { readonly imageOpts?: boolean; readonly format?: string | undefined } = {},
): ImageSpec {
  if (options.imageOpts) {
    if (options.format !== undefined) throw usage('--image-opts and --format are mutually exclusive');
    return fromOptions(parseOptions(text, 'file.filename'), text);
  }
  if (text.startsWith('json:')) {
    const spec = fromOptions(flattenJson(text.slice(5)), text);
    return options.format === undefined ? spec : { ...spec, format: options.format };
  }
  return { name: text, format: options.format };
}

export interface SpecOptions extends Omit<OpenImageOptions, 'format' | 'secret' | 'writable'> {
  readonly secrets?: Secrets;
}

const openHttp: SourceOpener = (name) => (/^https?:\/\//i.test(name) ? new HttpSource(name) : undefined);

/** The user's own images: what they name is opened, as qemu-img does. */
function settings(spec: ImageSpec, options: SpecOptions): OpenImageOptions {
  const { secrets, ...rest } = options;
  return {
    references: 'any',
    openFile: openHttp,
    ...rest,
    ...(spec.format === undefined ? {} : { format: spec.format }),
    ...(spec.keySecret === undefined ? {} : { secret: () => secrets?.get(spec.keySecret!) }),
  };
}

export function openSpec(spec: ImageSpec, options: SpecOptions = {}): Image {
  return open(spec, settings(spec, options), false);
}
export function openSpecWritable(spec: ImageSpec, options: SpecOptions = {}): WritableImage {
  return open(spec, { ...settings(spec, options), writable: true }, true) as WritableImage;
}

function open(spec: ImageSpec, options: OpenImageOptions, writable: boolean): Image {
  // A wrong id is the caller's mistake, and is told before anything is opened.
  options.secret?.();
  if (spec.offset === undefined && spec.length === undefined)
    return writable ? openImage(spec.name, { ...options, writable: true }) : openImage(spec.name, options);
  if ((spec.format ?? 'raw') !== 'raw') throw unsupported(`${spec.name}: offset and size are for raw images`);
  const file = writable ? openFileWritable(spec.name) : openFile(spec.name);
  const start = spec.offset ?? 0;
  const part = window(file, start, spec.length ?? Math.max(0, file.size - start));
  const image = openImage(part, { ...options, format: 'raw', ...(writable ? { writable: true as const } : {}) });
  const close = image.close.bind(image);
  image.close = () => {
    close();
    file.close();
  };
  return image;
}
