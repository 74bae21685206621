import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { guidText } from '../../lib/core/bytes.js';
import { GuestError } from '../../lib/core/errors.js';
import { vdi } from '../../lib/image/vdi/index.js';
import { Header } from '../../lib/image/vdi/structs.js';
import { createImage, openImage, openWritableImage } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const MIB = 1 << 20;
const make = (name: string, fill: number): string => {
  const path = join(dir, name);
  createImage(vdi, path, { size: 3 * MIB });
  const image = openWritableImage(vdi, path);
  image.write(new Uint8Array(2 * MIB).fill(fill), 0);
  image.close();
  return path;
};
const byteAt = (path: string, at: number): number => {
  const image = openImage(vdi, path);
  try {
    const b = new Uint8Array(1);
    image.read(b, at);
    return b[0]!;
  } finally {
    image.close();
  }
};

it('reads discarded blocks as zeroes, and fills them again', () => {
  const path = make('discarded.vdi', 7);
  const b = readFileSync(path);
  b.writeUInt32LE(0xfffffffe, 512);
  writeFileSync(path, b);
  expect([byteAt(path, 0), byteAt(path, MIB)]).toEqual([0, 7]);
  const image = openWritableImage(vdi, path);
  image.write(new Uint8Array(10).fill(9), 100);
  image.close();
  expect([byteAt(path, 99), byteAt(path, 100), byteAt(path, MIB)]).toEqual([0, 9, 7]);
});

it('gives out no block that the map has, whatever the header counts', () => {
  for (const count of [0, 1, 0x7fffffff]) {
    const path = make(`count-${count}.vdi`, 7);
    const b = readFileSync(path);
    b.writeUInt32LE(count, Header.offset.blocksAllocated);
    writeFileSync(path, b);
    const image = openWritableImage(vdi, path);
    image.write(new Uint8Array(10).fill(9), 2 * MIB);
    image.close();
    expect([byteAt(path, 0), byteAt(path, 2 * MIB - 1), byteAt(path, 2 * MIB)]).toEqual([7, 7, 9]);
    const again = openImage(vdi, path);
    expect(again.check!().problems).toEqual([]);
    again.close();
  }
});

it('reads a differencing disk over the disk of that UUID beside it, else says what is missing', () => {
  const parent = make('parent.vdi', 0xaa);
  const id = Header.at(readFileSync(parent)).uuidImage.slice();
  const path = make('child.vdi', 0xcc);
  const b = readFileSync(path);
  b.writeUInt32LE(4, Header.offset.imageType);
  b.set(id, Header.offset.uuidParent);
  b.writeUInt32LE(0xffffffff, 512 + 4);
  writeFileSync(path, b);
  expect(() => openImage(vdi, path)).toThrow(/names its parent by UUID only: put that disk beside it as "\{[0-9a-f-]+\}\.vdi"/);
  const beside = join(dir, `{${guidText(id).toLowerCase()}}.vdi`);
  copyFileSync(parent, beside);
  expect([byteAt(path, 0), byteAt(path, MIB), byteAt(path, 2 * MIB)]).toEqual([0xcc, 0xaa, 0]);
  copyFileSync(path, beside);
  const wrong = readFileSync(make('other.vdi', 1));
  writeFileSync(beside, wrong);
  expect(() => openImage(vdi, path)).toThrow(/is not the parent of this disk/);
});

for (const e of sharedEntries().filter((x) => x.kind === 'vdi' && x.bad))
  itIf(hasSharedData(), noSharedData)(`refuses damaged ${e.name} with an error of ours`, () => {
    expect(() => openImage(vdi, sharedFile(e.name)).check!()).toThrow(GuestError);
  });
