import { besideImage, createImage, formatByName, GuestError, openImage, parseSize, StagedOutput } from '../../lib/index.js';
import type { Tool } from '../shared/tool.js';
import { flag, ImgOptions, Settings, value } from './common.js';
import { createHelp } from './option-help.js';

export const create: Tool = {
  name: 'virt-img create',
  summary: 'make a new image',
  usage: ['virt-img create [OPTIONS] FILE [SIZE]'],
  examples: [
    ['an empty disk', 'virt-img create -f qcow2 disk.qcow2 20G'],
    ['an overlay: what is written goes there, the base stays', 'virt-img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2'],
  ],
  setup(command) {
    const o = new ImgOptions(command).addFormat('format of the new image (raw)').addQuiet();
    const settings = new Settings();
    let backing: string | undefined;
    let backingFormat: string | undefined;
    let unsafe = false;
    value(command, '-o, --options <settings>', 'settings of the format, NAME=VALUE,…; "help" lists them', (v) => settings.add(v));
    value(command, '-b, --backing <file>', 'backing file', (v) => {
      backing = v;
    });
    value(command, '-F, --backing-format <format>', 'format of the backing file', (v) => {
      backingFormat = v;
    });
    flag(command, '-u, --backing-unsafe', 'do not open the backing file', () => {
      unsafe = true;
    });
    return (args) => {
      const format = formatByName(o.format ?? 'raw');
      if (settings.help) return createHelp(format.name);
      if (args.length < 1) throw new GuestError('usage', 'the name of the new image is expected');
      if (args.length > 2) throw new GuestError('usage', `unexpected argument "${args[2]}"`);
      const path = args[0]!;
      const { backing_file: file, backing_fmt: fmt, size: sizeSetting, ...rest } = settings.values;
      const name = backing ?? file;
      const below = backingFormat ?? fmt;
      if (name === '') throw new GuestError('usage', 'expected a backing file name, got an empty string');
      const sizeText = args[1] ?? sizeSetting;
      let size = sizeText === undefined ? undefined : parseSize(sizeText, 'size');
      if (name !== undefined) {
        if (below === undefined) throw backingWithoutFormat(path, name);
        formatByName(below);
        if (!unsafe) {
          const base = openImage(besideImage(path, name), { format: below, references: 'any', forceShare: true });
          size ??= base.size;
          base.close();
        }
      } else if (below !== undefined) throw new GuestError('usage', 'a backing format without a backing file');
      if (size === undefined) throw new GuestError('usage', 'image creation needs a size', { path });
      const keyId = rest['encrypt.key-secret'];
      const staged = new StagedOutput(path);
      try {
        createImage(
          staged.file,
          format.name,
          { size, settings: rest, ...(name === undefined ? {} : { backing: { name, format: below! } }) },
          {
            path,
            createSibling: staged.createSibling,
            ...(keyId === undefined ? {} : { secret: () => o.secrets.get(keyId) }),
          },
        );
        staged.finish(true);
      } catch (e) {
        staged.discard();
        throw e;
      }
      o.say(`Formatting '${path}', fmt=${format.name} ${summary(format.name, size, rest, name, below)}`);
      return 0;
    };
  },
};

function backingWithoutFormat(path: string, name: string): GuestError {
  let found = '';
  try {
    const base = openImage(besideImage(path, name), { references: 'any', forceShare: true, noBacking: true });
    found = ` (detected: ${base.format})`;
    base.close();
  } catch (e) {
    if (!(e instanceof GuestError)) throw e;
  }
  return new GuestError('usage', `backing file specified without backing format${found}; give it with -F`, { path });
}

/** Defaults and order of the line that qemu-img prints. */
const LINE: Readonly<Record<string, readonly (readonly [name: string, fallback?: string])[]>> = {
  raw: [['size'], ['preallocation']],
  qcow2: [
    ['encrypt.format'],
    ['encrypt.cipher-alg'],
    ['encrypt.cipher-mode'],
    ['encrypt.ivgen-alg'],
    ['encrypt.ivgen-hash-alg'],
    ['encrypt.hash-alg'],
    ['encrypt.key-secret'],
    ['encrypt.iter-time'],
    ['cluster_size', '65536'],
    ['extended_l2', 'off'],
    ['preallocation'],
    ['compression_type', 'zlib'],
    ['size'],
    ['compat'],
    ['backing_file'],
    ['backing_fmt'],
    ['data_file'],
    ['data_file_raw'],
    ['lazy_refcounts', 'off'],
    ['refcount_bits', '16'],
  ],
  vmdk: [
    ['size'],
    ['backing_file'],
    ['backing_fmt'],
    ['adapter_type'],
    ['compat6', 'off'],
    ['hwversion', 'undefined'],
    ['subformat'],
    ['toolsversion'],
    ['zeroed_grain'],
  ],
  vpc: [['size'], ['subformat'], ['force_size']],
  vhdx: [['size'], ['log_size', '1048576'], ['block_size', '0'], ['subformat'], ['block_state_zero']],
  vdi: [['size'], ['static', 'off']],
};
const SIZES = new Set(['cluster_size', 'log_size', 'block_size']);

function summary(
  format: string,
  size: number,
  settings: Readonly<Record<string, string>>,
  backing: string | undefined,
  backingFormat: string | undefined,
): string {
  const all: Record<string, string | undefined> = {
    ...settings,
    size: String(size),
    backing_file: backing,
    backing_fmt: backing === undefined ? undefined : backingFormat,
  };
  return (LINE[format] ?? [['size']])
    .flatMap(([name, fallback]) => {
      const v = all[name] ?? fallback;
      if (v === undefined) return [];
      return [`${name}=${SIZES.has(name) ? parseSize(v, name) : v}`];
    })
    .join(' ');
}
