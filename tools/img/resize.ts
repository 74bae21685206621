import {
  GuestError,
  type Image,
  openSpecWritable,
  parseSize,
  preallocate,
  type ResizableSource,
  WritableQcow2Image,
} from '../../lib/index.js';
import { json, out, warn } from '../shared/output.js';
import { runTool, type Tool } from '../shared/tool.js';
import { flag, ImgOptions, value } from './common.js';

const MODES = ['off', 'metadata', 'falloc', 'full'] as const;
type Mode = (typeof MODES)[number];
/** The size comes last and may begin with "-", so it is taken before options are looked at. */
let sizeText = '';

const inner: Tool = {
  name: 'virt-img resize',
  summary: 'change the size of the disk',
  usage: ['virt-img resize [OPTIONS] FILE [+|-]SIZE'],
  examples: [
    ['10 GiB more', 'virt-img resize disk.qcow2 +10G'],
    ['smaller; make partitions and filesystems smaller before', 'virt-img resize --shrink disk.qcow2 5G'],
  ],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addQuiet().addOutput();
    let shrink = false;
    let mode: Mode = 'off';
    flag(command, '--shrink', 'allow to cut off what is at the end', () => {
      shrink = true;
    });
    value(command, '--preallocation <mode>', 'how new space is made: off, metadata, falloc, full', (v) => {
      const m = MODES.find((x) => x === v);
      if (m === undefined) throw new GuestError('usage', `--preallocation: "${v}" is not known (${MODES.join(', ')})`);
      mode = m;
    });
    return (args) => {
      if (args.length !== 1 || sizeText === '') throw new GuestError('usage', 'an image file name and a size are expected');
      const image = openSpecWritable(o.spec(args[0]!), o.open);
      try {
        const old = image.size;
        const size = wanted(old);
        if (size < old && !shrink) {
          warn(
            'virt-img resize: warning: shrinking an image deletes all data beyond the new end; make sure there is nothing of value there',
          );
          throw new GuestError('usage', 'use the --shrink option to perform a shrink operation');
        }
        if (size < old && mode !== 'off') throw new GuestError('usage', 'preallocation is for growing an image');
        apply(image, old, size, mode);
        if (o.json) out.line(json({ 'old-size': old, 'virtual-size': image.size }));
        else o.say(size === old ? 'Image did not need to be resized.' : 'Image resized.');
      } finally {
        image.close();
      }
      return 0;
    };
  },
};

function wanted(old: number): number {
  const sign = sizeText[0];
  const n = parseSize(sign === '+' || sign === '-' ? sizeText.slice(1) : sizeText, 'size');
  const size = sign === '+' ? old + n : sign === '-' ? old - n : n;
  if (size <= 0) throw new GuestError('usage', `new image size must be positive, not ${size}`);
  if (!Number.isSafeInteger(size)) throw new GuestError('usage', `a disk of ${size} bytes is too large`);
  return Math.ceil(size / 512) * 512;
}

function apply(image: Image & { resize?(size: number): void }, old: number, size: number, mode: Mode): void {
  if (size === old) return;
  if (image instanceof WritableQcow2Image) return image.resize(size, mode);
  if (image.resize === undefined) throw new GuestError('unsupported', `${image.format} images cannot be resized`);
  if (image.format === 'raw' && mode === 'metadata')
    throw new GuestError('unsupported', 'raw images have no metadata to preallocate (off, falloc, full)');
  if (mode !== 'off' && image.format !== 'raw')
    throw new GuestError('unsupported', `preallocation is not supported for ${image.format} images`);
  image.resize(size);
  if (mode !== 'off') preallocate(image.file as ResizableSource, old, size - old, mode);
}

export const resize: Tool = {
  ...inner,
  async dispatch(argv) {
    const last = argv[argv.length - 1];
    const takes = last !== undefined && /^[+-]?\d/.test(last) && argv.length > 1;
    sizeText = takes ? last : '';
    const { dispatch: _own, ...plain } = resize;
    return runTool(plain, takes ? argv.slice(0, -1) : argv);
  },
};
