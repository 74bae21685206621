import { existsSync, fstatSync, realpathSync } from 'node:fs';
import { dirname, isAbsolute, resolve, sep } from 'node:path';
import { FileSource, openFile, openFileWritable } from '../block/file.js';
import type { BlockSource } from '../block/source.js';
import { explain, GuestError, within } from '../core/errors.js';
import { limits } from '../core/limits.js';
import type { Image, ImageFormat, OpenContext, Reference, WritableImage } from './format.js';
import { lockImage } from './lock.js';
import { type FileName, parseFileName } from './reference.js';
import { findFormat, formatByName, probeFormat } from './registry.js';

/** Opens a name that is not a plain path (http://…, nbd://…), or declines with undefined. */
export type SourceOpener = (name: string, writable: boolean) => BlockSource | undefined;

export interface OpenImageOptions {
  /** Forces the format; without it the contents tell. */
  readonly format?: string;
  readonly writable?: boolean;
  /**
   * Which files an image may name: `any` (a user's own images, as qemu-img has it), `same-folder` (in or below the
   * folder of the image that names them), `none`.
   */
  readonly references?: 'any' | 'same-folder' | 'none';
  /** Lets an image name remote addresses. */
  readonly allowRemote?: boolean;
  /** Leaves backing files closed: `info` of one file. */
  readonly noBacking?: boolean;
  /** Does not ask for locks (qemu-img -U). */
  readonly forceShare?: boolean;
  /** Opens damaged images too. */
  readonly forCheck?: boolean;
  secret?(): Uint8Array | undefined;
  readonly openFile?: SourceOpener;
}

const openers: SourceOpener[] = [];
/** Upper layers register what they can open: every `openImage` then understands such names. */
export function registerSourceOpener(opener: SourceOpener): void {
  openers.push(opener);
}

/** Where an image was opened from, for the references in it. */
interface Chain {
  readonly path?: string | undefined;
  readonly depth: number;
  /** Device and inode (or address) of the files above. */
  readonly seen: readonly string[];
}

export function openImage(from: string | BlockSource, options: OpenImageOptions & { readonly writable: true }): WritableImage;
export function openImage(from: string | BlockSource, options?: OpenImageOptions): Image;
export function openImage(from: string | BlockSource, options: OpenImageOptions = {}): Image {
  if (typeof from !== 'string') {
    const path = from instanceof FileSource ? from.path : undefined;
    return openSource(from, options, options.format, { path, depth: 0, seen: identity(from) }, options.writable === true, false);
  }
  const name = parseFileName(from);
  const file = openNamed(name, options, options.writable === true);
  const path = name.kind === 'path' ? name.name : undefined;
  return openSource(
    file,
    options,
    options.format ?? name.format,
    { path, depth: 0, seen: identity(file) },
    options.writable === true,
    true,
  );
}

function openNamed(name: FileName, options: OpenImageOptions, writable: boolean): BlockSource {
  for (const open of options.openFile === undefined ? openers : [options.openFile, ...openers]) {
    const source = open(name.name, writable);
    if (source !== undefined) return source;
  }
  if (name.kind === 'remote')
    throw new GuestError('unsupported', `"${name.name}" cannot be opened (no driver for this kind of address)`);
  return writable ? openFileWritable(name.name) : openFile(name.name);
}

const identity = (file: BlockSource): string[] => {
  if (!(file instanceof FileSource)) return [];
  const st = fstatSync(file.fd);
  return [`${st.dev}:${st.ino}`];
};

/** What is there, for a format that was asked for and is not. */
function wrongFormat(wanted: ImageFormat, file: BlockSource): GuestError {
  const found = probeFormat(file);
  const what = found.name === 'raw' ? 'no known signature is there: a raw image?' : `it is ${found.name}`;
  return new GuestError('wrong-format', `not a ${wanted.name} image (${what})`, { path: file.label });
}

function openSource(
  file: BlockSource,
  options: OpenImageOptions,
  formatName: string | undefined,
  chain: Chain,
  writable: boolean,
  ownsFile: boolean,
): Image {
  const problems: string[] = [];
  try {
    const format = formatName === undefined ? probeFormat(file) : formatByName(formatName);
    if (formatName !== undefined && format.name !== 'raw' && !probes(format, file)) throw wrongFormat(format, file);
    if (file instanceof FileSource && !options.forceShare)
      lockImage(file.fd, file.path, { writable, raw: format.name === 'raw' });
    const context: OpenContext = {
      writable,
      ...(chain.path === undefined ? {} : { path: chain.path }),
      ...(options.noBacking === undefined ? {} : { noBacking: options.noBacking }),
      ...(options.forCheck === undefined ? {} : { forCheck: options.forCheck }),
      ...(options.secret === undefined ? {} : { secret: options.secret }),
      openReference: (reference) => openReference(reference, options, chain, writable, problems, file.label),
    };
    const image = within({ path: file.label }, () => format.open(file, context));
    return owned(image, ownsFile ? file : undefined, problems);
  } catch (e) {
    if (ownsFile) file.close();
    throw e;
  }
}

function probes(format: ImageFormat, file: BlockSource): boolean {
  const head = new Uint8Array(Math.min(65536, file.size));
  file.read(head, 0);
  return format.accepts?.(head, file) ?? format.probe(head, file);
}

/** The image closes the file that was opened for it, and tells what had to be guessed. */
function owned(image: Image, file: BlockSource | undefined, problems: readonly string[]): Image {
  const close = image.close.bind(image);
  const describe = image.describe.bind(image);
  let open = true;
  if (file !== undefined)
    image.close = () => {
      if (!open) return;
      open = false;
      try {
        close();
      } finally {
        file.close();
      }
    };
  if (problems.length > 0)
    image.describe = () => {
      const info = describe();
      return { ...info, features: [...info.features, ...problems] };
    };
  return image;
}

const ROLE = { backing: 'backing file', data: 'data file', extent: 'extent file' } as const;

/** The gate: nothing an image names is opened without passing here. */
function openReference(
  reference: Reference,
  options: OpenImageOptions,
  chain: Chain,
  parentWritable: boolean,
  problems: string[],
  parent: string,
): BlockSource {
  const role = ROLE[reference.role];
  try {
    if (chain.depth + 1 > limits.backingDepth)
      throw new GuestError('corrupt', `more than ${limits.backingDepth} images in a chain`);
    const parsed = parseFileName(reference.name);
    const recorded = reference.format ?? parsed.format;
    if (parsed.kind === 'remote' && !options.allowRemote)
      throw new GuestError('denied', 'an image may not name remote addresses (allow it if you trust the image)');
    if (options.references === 'none') throw new GuestError('denied', 'images may not name other files here');
    const name = parsed.kind === 'path' ? { ...parsed, name: placeOf(reference.role, parsed.name, chain.path) } : parsed;
    if (parsed.kind === 'path' && options.references === 'same-folder') inFolder(name.name, chain.path);
    const writable = reference.writable === true;
    const file = openNamed(name, options, writable);
    try {
      const id = identity(file);
      if (id.some((x) => chain.seen.includes(x)))
        throw new GuestError('corrupt', 'the chain comes back to an image it began with');
      if (reference.role !== 'backing') {
        if (file instanceof FileSource && !options.forceShare) lockImage(file.fd, file.path, { writable, raw: true });
        return file;
      }
      if (recorded === undefined) {
        if (parentWritable)
          throw new GuestError(
            'denied',
            `its format is not recorded in ${parent}, and is not guessed for writing (record it: qemu-img rebase -u -b "${reference.name}" -F FORMAT "${parent}")`,
          );
        const probed = probeFormat(file).name;
        problems.push(`backing file format not recorded (probed: ${probed})`);
      }
      const formatName = recorded === undefined ? undefined : (findFormat(recorded)?.name ?? unknownFormat(recorded));
      const path = name.kind === 'path' ? name.name : undefined;
      return openSource(file, options, formatName, { path, depth: chain.depth + 1, seen: [...chain.seen, ...id] }, false, true);
    } catch (e) {
      file.close();
      throw e;
    }
  } catch (e) {
    if (!(e instanceof GuestError)) throw e;
    // The cause's own text would repeat the path that this one names.
    const message = explain(e);
    throw new GuestError(e.code, `${role} ${reference.name}: ${stripPrefix(message, [e.where.path, reference.name])}`, {});
  }
}

function stripPrefix(message: string, names: readonly (string | undefined)[]): string {
  for (const n of names) if (n !== undefined && message.startsWith(`${n}: `)) message = message.slice(n.length + 2);
  return message;
}

function unknownFormat(name: string): never {
  throw new GuestError('unsupported', `its format "${name}" is not supported`);
}

/** QEMU takes a data file's name as its own working directory has it: that is the second place to look. */
function placeOf(role: Reference['role'], name: string, referrer: string | undefined): string {
  const path = resolvePath(name, referrer);
  return role === 'data' && !existsSync(path) && existsSync(name) ? name : path;
}

/** Relative names start at the folder of the image that has them. */
function resolvePath(name: string, referrer: string | undefined): string {
  if (isAbsolute(name) || referrer === undefined) return name;
  const folder = dirname(referrer);
  return folder === '.' ? name : `${folder}/${name}`;
}

function inFolder(name: string, referrer: string | undefined): void {
  if (referrer === undefined) throw new GuestError('denied', 'the image has no folder, so it may not name other files');
  const real = (p: string): string => {
    try {
      return realpathSync(p);
    } catch {
      return resolve(p);
    }
  };
  const folder = real(dirname(resolve(referrer)));
  if (!real(resolve(name)).startsWith(folder === sep ? sep : folder + sep))
    throw new GuestError('denied', `it is outside the folder of the image that names it (${folder})`);
}
