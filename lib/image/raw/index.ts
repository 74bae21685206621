import { WritableFileSource } from '../../block/file.js';
import type { ResizableSource } from '../../block/source.js';
import { usage } from '../../core/errors.js';
import type { CreateOptions, ImageFormat } from '../format.js';
import { RawImage, WritableRawImage } from './image.js';

export { RawImage, WritableRawImage } from './image.js';

/** The disk's bytes and nothing else.  Probing says yes to everything: last in the registry. */
export const raw: ImageFormat = {
  name: 'raw',
  extensions: ['.img', '.raw', '.dd', '.iso'],
  probe: () => true,
  open: (file, context) => (context.writable ? new WritableRawImage(file) : new RawImage(file)),
  create,
  createOptions: [
    { name: 'size', type: 'size', help: 'virtual disk size' },
    { name: 'preallocation', type: 'string', help: 'reserve space: off, falloc or full', values: ['off', 'falloc', 'full'] },
  ],
};

function create(file: ResizableSource, options: CreateOptions): void {
  if (options.backing !== undefined) throw usage('raw images have no backing file');
  const mode = options.settings?.['preallocation'] ?? 'off';
  const size = Math.ceil(options.size / 512) * 512;
  file.resize(0);
  file.resize(size);
  preallocate(file, 0, size, mode);
}

/** Reserves host space for a range that reads as zeroes already. */
export function preallocate(file: ResizableSource, offset: number, length: number, mode: string): void {
  switch (mode) {
    case 'off':
    case 'metadata':
      return;
    case 'falloc':
      if (file instanceof WritableFileSource && file.allocate(offset, length)) return;
      return writeZeroes(file, offset, length);
    case 'full':
      return writeZeroes(file, offset, length);
    default:
      throw usage(`preallocation "${mode}" is not known (off, falloc, full)`);
  }
}

function writeZeroes(file: ResizableSource, offset: number, length: number): void {
  const z = new Uint8Array(Math.min(length, 1 << 20));
  for (let at = 0; at < length; at += z.length) file.write(z.subarray(0, Math.min(z.length, length - at)), offset + at);
}
