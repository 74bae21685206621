import { GuestError, openSpec, openSpecWritable, Qcow2Image, WritableQcow2Image } from '../../lib/index.js';
import type { Tool } from '../shared/tool.js';
import { bytes, flag, ImgOptions, value } from './common.js';

type Action =
  | { readonly kind: 'add' | 'remove' | 'clear' | 'enable' | 'disable' }
  | { readonly kind: 'merge'; readonly from: string };

export const bitmap: Tool = {
  name: 'virt-img bitmap',
  summary: 'change persistent dirty bitmaps',
  usage: ['virt-img bitmap [OPTIONS] (--add | --remove | --clear | --enable | --disable | --merge SOURCE)… FILE BITMAP'],
  examples: [['begin to record what changes', 'virt-img bitmap --add disk.qcow2 backup-1']],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts();
    const actions: Action[] = [];
    let granularity: number | undefined;
    let sourceFile: string | undefined;
    let sourceFormat: string | undefined;
    for (const [kind, help] of [
      ['add', 'make the bitmap, enabled'],
      ['remove', 'remove it'],
      ['clear', 'clear all bits'],
      ['enable', 'record writes'],
      ['disable', 'stop recording'],
    ] as const)
      flag(command, `--${kind}`, help, () => actions.push({ kind }));
    value(command, '--merge <source>', 'set the bits that another bitmap has', (from) => actions.push({ kind: 'merge', from }));
    value(command, '-g, --granularity <size>', 'bytes a bit stands for (with --add)', (v) => {
      granularity = bytes(v, '-g');
    });
    value(command, '-b, --source-file <file>', 'image with the bitmap to merge', (v) => {
      sourceFile = v;
    });
    value(command, '-F, --source-format <format>', 'its format', (v) => {
      sourceFormat = v;
    });
    return (args) => {
      if (args.length !== 2) throw new GuestError('usage', 'an image file name and the name of a bitmap are expected');
      if (actions.length === 0)
        throw new GuestError('usage', 'one of --add, --remove, --clear, --enable, --disable or --merge is expected');
      if (granularity !== undefined && !actions.some((a) => a.kind === 'add')) throw new GuestError('usage', '-g needs --add');
      if (sourceFormat !== undefined && sourceFile === undefined) throw new GuestError('usage', '-F needs -b');
      if (sourceFile !== undefined && !actions.some((a) => a.kind === 'merge')) throw new GuestError('usage', '-b needs --merge');
      const [file, name] = args as [string, string];
      const image = openSpecWritable(o.spec(file), { ...o.open, noBacking: true });
      try {
        if (!(image instanceof WritableQcow2Image)) throw new GuestError('unsupported', `${image.format} images have no bitmaps`);
        for (const a of actions) {
          if (a.kind === 'add') image.addBitmap(name, granularity === undefined ? {} : { granularity });
          else if (a.kind === 'remove') image.removeBitmap(name);
          else if (a.kind === 'clear') image.clearBitmap(name);
          else if (a.kind === 'merge')
            image.mergeBitmap(name, sourceFile === undefined ? a.from : bitsOf(sourceFile, a.from, sourceFormat, o));
          else image.enableBitmap(name, a.kind === 'enable');
        }
      } finally {
        image.close();
      }
      return 0;
    };
  },
};

function bitsOf(file: string, name: string, format: string | undefined, o: ImgOptions) {
  const image = openSpec(o.spec(file, format), { ...o.open, noBacking: true });
  try {
    if (!(image instanceof Qcow2Image)) throw new GuestError('unsupported', `${file}: ${image.format} images have no bitmaps`);
    const found = image.bitmaps.find((b) => b.name === name);
    if (found === undefined) throw new GuestError('not-found', `${file} has no bitmap "${name}"`);
    return { bits: image.readBitmap(name), granularity: found.granularity };
  } finally {
    image.close();
  }
}
