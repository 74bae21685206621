import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GuestError } from '../../lib/core/errors.js';
import { roundedGeometry, visibleSize } from '../../lib/image/vpc/geometry.js';
import { vpc } from '../../lib/image/vpc/index.js';
import { checksumOf, DynamicHeader, Footer } from '../../lib/image/vpc/structs.js';
import { createImage, openImage, openWritableImage, seeded, sha256Of } from '../conformance/image.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();

itNeeds('qemu-img')('rounds sizes to the cylinders qemu-img rounds them to', () => {
  const random = seeded(3);
  const path = join(dir, 'size.vhd');
  const sizes = [512, 1 << 20, 100 << 20, 504 * 2 ** 20, 8 * 2 ** 30, 127 * 2 ** 30, 136899993600, 2 ** 40];
  for (let i = 0; i < 12; i++) sizes.push((random(2 ** 31) + 1) * 512);
  for (const size of sizes) {
    run('qemu-img', ['create', '-q', '-f', 'vpc', path, `${size}`]);
    const theirs = JSON.parse(run('qemu-img', ['info', '--output=json', '-f', 'vpc', path]))['virtual-size'];
    expect(roundedGeometry(size).sectors * 512, `${size}`).toBe(theirs);
  }
});

it('takes the true size from creators that store it, the geometry from the others', () => {
  const g = { cylinders: 100, heads: 4, sectorsPerTrack: 17 };
  const product = 100 * 4 * 17 * 512;
  expect(['win ', 'qem2', 'd2v ', 'CTXS', 'tap\0'].map((c) => visibleSize(c, g, 5 << 20))).toEqual(Array(5).fill(5 << 20));
  expect(['vpc ', 'qemu', 'vbox'].map((c) => visibleSize(c, g, 5 << 20))).toEqual(Array(3).fill(product));
  expect(visibleSize('vpc ', { cylinders: 65535, heads: 16, sectorsPerTrack: 255 }, 2 ** 40)).toBe(2 ** 40);
});

describe('footers', () => {
  const made = (settings: Record<string, string>) => {
    const path = join(dir, `footer-${Object.values(settings).join('')}.vhd`);
    createImage(vpc, path, { size: 6 << 20, settings });
    const image = openWritableImage(vpc, path);
    image.write(new Uint8Array(4000).fill(8), 3 << 20);
    image.close();
    const again = openImage(vpc, path);
    const sha = sha256Of(again);
    again.close();
    return { path, sha, bytes: readFileSync(path) };
  };
  const shaOf = (path: string) => {
    const image = openImage(vpc, path);
    try {
      return sha256Of(image);
    } finally {
      image.close();
    }
  };

  it('the copy at the start serves when the last one is damaged, and the other way round', () => {
    const { path, sha, bytes } = made({ subformat: 'dynamic' });
    for (const at of [bytes.length - 512, 0]) {
      const b = Buffer.from(bytes);
      b[at + 50]! ^= 0xff;
      writeFileSync(path, b);
      expect(shaOf(path)).toBe(sha);
    }
    const b = Buffer.from(bytes);
    b[50]! ^= 0xff;
    b[bytes.length - 512 + 50]! ^= 0xff;
    writeFileSync(path, b);
    expect(() => shaOf(path)).toThrow(/no usable VHD footer \(checksum at 0x0 is 0x[0-9a-f]+, expected 0x[0-9a-f]+/);
  });

  it('of 511 bytes are read, as old Virtual PC versions wrote them', () => {
    const { path, sha, bytes } = made({ subformat: 'fixed' });
    truncateSync(path, bytes.length - 1);
    expect(shaOf(path)).toBe(sha);
  });

  it('of fixed disks are not guessed from, but accepted when the format is named', () => {
    const { bytes } = made({ subformat: 'fixed' });
    const file = {
      size: bytes.length,
      label: 'x',
      sectorSize: 512,
      read: (into: Uint8Array, at: number) => into.set(bytes.subarray(at, at + into.length)),
      map: () => ({ kind: 'computed' as const, length: 1 }),
      close() {},
    };
    expect(vpc.probe(bytes.subarray(0, 65536), file)).toBe(false);
    expect(vpc.accepts!(bytes.subarray(0, 65536), file)).toBe(true);
  });
});

describe('differencing disks', () => {
  /** A child over parent.vhd whose block 0 has sectors 1 and 9 of its own. */
  const child = (name: string, parentId: Uint8Array): string => {
    const path = join(dir, name);
    createImage(vpc, path, { size: 6 << 20, settings: { force_size: 'on' } });
    const image = openWritableImage(vpc, path);
    image.write(new Uint8Array(512).fill(0xc1), 512);
    image.write(new Uint8Array(512).fill(0xc9), 512 * 9);
    image.close();
    const b = readFileSync(path);
    for (const at of [0, b.length - 512]) {
      const f = b.subarray(at, at + 512);
      Footer.at(f).diskType = 4;
      Footer.at(f).checksum = checksumOf(f, Footer.offset.checksum);
    }
    const header = b.subarray(512, 1536);
    DynamicHeader.at(header).parentUniqueId = parentId;
    const name16 = Buffer.from('parent.vhd', 'utf16le').swap16();
    header.set(name16, 64);
    DynamicHeader.at(header).checksum = checksumOf(header, DynamicHeader.offset.checksum);
    // The bitmap of the only block, highest bit first.
    const bitmap = b.readUInt32BE(1536) * 512;
    b.fill(0, bitmap, bitmap + 512);
    b[bitmap] = 0x40;
    b[bitmap + 1] = 0x40;
    writeFileSync(path, b);
    return path;
  };
  const parent = (): Uint8Array => {
    const path = join(dir, 'parent.vhd');
    createImage(vpc, path, { size: 6 << 20, settings: { force_size: 'on' } });
    const image = openWritableImage(vpc, path);
    image.write(new Uint8Array(6 << 20).fill(0xaa), 0);
    image.close();
    return Uint8Array.from(Footer.at(readFileSync(path)).uniqueId);
  };

  it('take each sector from where its bit says', () => {
    const path = child('child.vhd', parent());
    const image = openImage(vpc, path);
    const b = new Uint8Array(6 << 20);
    image.read(b, 0);
    const model = new Uint8Array(6 << 20).fill(0xaa);
    model.fill(0xc1, 512, 1024);
    model.fill(0xc9, 512 * 9, 512 * 10);
    expect(Buffer.compare(b, model)).toBe(0);
    expect(image.extent(0, 10_000)).toMatchObject({ length: 512, depth: 1 });
    expect(image.extent(512, 10_000)).toMatchObject({ length: 512, depth: 0, data: true });
    expect(image.describe().backingName).toBe('parent.vhd');
    image.close();
    expect(() => openWritableImage(vpc, path)).toThrow(/can be read, not written/);
  });

  it('refuse another disk as their parent, and say which names were tried', () => {
    parent();
    expect(() => openImage(vpc, child('wrong.vhd', new Uint8Array(16).fill(1)))).toThrow(/parent "parent.vhd" has unique id/);
    const path = child('orphan.vhd', new Uint8Array(16));
    expect(() =>
      openImage(vpc, path, {
        openReference: () => {
          throw new GuestError('not-found', 'no');
        },
      }),
    ).toThrow(/parent not found \(tried "parent.vhd"\)/);
  });
});

for (const e of sharedEntries().filter((x) => x.kind === 'vhd' && x.bad))
  itIf(hasSharedData(), noSharedData)(`refuses damaged ${e.name} with an error of ours`, () => {
    expect(() => openImage(vpc, sharedFile(e.name))).toThrow(GuestError);
  });
