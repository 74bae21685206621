import { expect, it } from 'vitest';
import { MemorySource } from '../../lib/block/memory.js';
import { isWritable } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import type { ImageFormat } from '../../lib/image/format.js';
import { vdi } from '../../lib/image/vdi/index.js';
import { vmdk } from '../../lib/image/vmdk/index.js';

/** What nightly fuzzing found, one case a fault. */
function made(format: ImageFormat, size: number): MemorySource {
  const file = new MemorySource(0);
  const none = () => {
    throw new Error('no other file is named');
  };
  format.create!(file, { size }, { path: 'disk.img', createSibling: none });
  return file;
}
const opened = (format: ImageFormat, file: MemorySource) =>
  format.open(file, {
    writable: true,
    openReference: () => {
      throw new Error('no other file is named');
    },
  });
const outcome = (body: () => unknown): unknown => {
  try {
    return body();
  } catch (e) {
    return e;
  }
};

it('a VMDK grain table that lies on the grain directory itself is named, not read past its end', () => {
  const file = made(vmdk, 8 * 2 ** 30);
  const head = new DataView(file.bytes.buffer, file.bytes.byteOffset, file.bytes.byteLength);
  const redundant = Number(head.getBigUint64(48, true)) * 512;
  const directory = Number(head.getBigUint64(56, true)) * 512;
  for (const at of [redundant, directory]) head.setUint32(at + 4, directory / 512, true);
  const image = opened(vmdk, file);
  // The directory's page and the table's page begin at one place and have different lengths.
  const answers = [0, 32 << 20, 64 << 20, 8 * 2 ** 30 - 512].map((at) => outcome(() => image.read(new Uint8Array(512), at)));
  answers.push(outcome(() => image.check?.()));
  for (const a of answers) if (a instanceof Error) expect(a).toBeInstanceOf(GuestError);
  expect(answers.some((a) => a instanceof GuestError && /two tables overlap/.test(a.message))).toBe(true);
});

it('a VDI whose data area is said to begin past the end of the file is not made gigabytes long by a write', () => {
  const file = made(vdi, 64 << 20);
  new DataView(file.bytes.buffer, file.bytes.byteOffset).setUint32(344, 0xfffffe00, true);
  const before = file.size;
  const image = opened(vdi, file);
  expect(isWritable(image)).toBe(true);
  if (isWritable(image))
    expect(() => image.write(new Uint8Array(512).fill(1), 0)).toThrow(/data area at 0xfffffe00 is past the end of the file/);
  expect(file.size).toBe(before);
});
