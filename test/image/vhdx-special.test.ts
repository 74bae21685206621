import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GuestError } from '../../lib/core/errors.js';
import { vhdx } from '../../lib/image/vhdx/index.js';
import {
  checksumOf,
  guidBytes,
  guidText,
  HEADERS,
  Header,
  item,
  MIB,
  REGION_TABLES,
  VHDX_LOCATOR,
} from '../../lib/image/vhdx/structs.js';
import { createImage, openImage, openWritableImage } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const META = 3 * MIB;
const ITEMS = META + 65536;
const make = (name: string, size: number): string => {
  const path = join(dir, name);
  createImage(vhdx, path, { size, settings: { block_size: '1M', block_state_zero: 'off' } });
  return path;
};
const change = (path: string, edit: (b: Buffer) => void): void => {
  const b = readFileSync(path);
  edit(b);
  for (const at of HEADERS) b.writeUInt32LE(checksumOf(b.subarray(at, at + 4096)), at + 4);
  for (const at of REGION_TABLES) b.writeUInt32LE(checksumOf(b.subarray(at, at + 65536)), at + 4);
  writeFileSync(path, b);
};
const current = (b: Uint8Array) => HEADERS.map((at) => Header.at(b, at)).sort((x, y) => y.sequenceNumber - x.sequenceNumber)[0]!;

describe('differencing disks', () => {
  const parent = (): string => {
    const path = make('parent.vhdx', 4 * MIB);
    const image = openWritableImage(vhdx, path);
    image.write(new Uint8Array(4 * MIB).fill(0xaa), 0);
    image.close();
    return guidText(current(readFileSync(path)).dataWriteGuid);
  };
  /** Block 0 partially present (sectors 1 and 9), block 1 zero, block 2 here, block 3 the parent's. */
  const child = (linkage: string): string => {
    const path = make('child.vhdx', 4 * MIB);
    const image = openWritableImage(vhdx, path);
    image.write(new Uint8Array(MIB).fill(0xc0), 0);
    image.write(new Uint8Array(MIB).fill(0xc2), 2 * MIB);
    image.close();
    change(path, (b) => {
      b.writeUInt32LE(2, ITEMS + 4);
      b.writeUInt16LE(6, META + 10);
      const entry = META + 32 + 5 * 32;
      b.set(guidBytes(item.parentLocator), entry);
      const locator = Buffer.alloc(1024);
      locator.set(guidBytes(VHDX_LOCATOR));
      const pairs: [string, string][] = [
        ['parent_linkage', `{${linkage.toLowerCase()}}`],
        ['relative_path', '.\\parent.vhdx'],
      ];
      locator.writeUInt16LE(pairs.length, 18);
      let at = 100;
      for (const [i, pair] of pairs.entries())
        for (const [k, text] of pair.entries()) {
          const t = Buffer.from(text, 'utf16le');
          locator.writeUInt32LE(at, 20 + i * 12 + k * 4);
          locator.writeUInt16LE(t.length, 20 + i * 12 + 8 + k * 2);
          locator.set(t, at);
          at += t.length;
        }
      b.set(locator, ITEMS + 4096);
      b.writeUInt32LE(65536 + 4096, entry + 16);
      b.writeUInt32LE(locator.length, entry + 20);
      b.writeUInt32LE(4, entry + 24);
      const bat = 2 * MIB;
      b.writeUInt32LE(((b.readUInt32LE(bat) >>> 3) << 3) | 7, bat);
      b.writeUInt32LE(2, bat + 8);
    });
    // The chunk ratio is 4096 for blocks of 1 MiB: the sector bitmap's entry is the 4097th.
    const b = readFileSync(path);
    const bitmapAt = Math.ceil(b.length / MIB) * MIB;
    const bitmap = Buffer.alloc(MIB);
    bitmap[0] = 0x02;
    bitmap[1] = 0x02;
    b.writeUInt32LE(bitmapAt + 6, 2 * MIB + 4096 * 8);
    writeFileSync(path, Buffer.concat([b, Buffer.alloc(bitmapAt - b.length), bitmap]));
    return path;
  };

  it('take each sector and block from where the tables say', () => {
    const image = openImage(vhdx, child(parent()));
    const b = new Uint8Array(image.size);
    image.read(b, 0);
    const model = new Uint8Array(4 * MIB).fill(0xaa);
    model.fill(0xc0, 512, 1024);
    model.fill(0xc0, 512 * 9, 512 * 10);
    model.fill(0, MIB, 2 * MIB);
    model.fill(0xc2, 2 * MIB, 3 * MIB);
    expect(Buffer.compare(b, model)).toBe(0);
    expect(image.check!().problems).toEqual([]);
    expect(image.extent(3 * MIB, MIB)).toMatchObject({ depth: 1, data: true });
    image.close();
  });

  it('refuse a parent that was written to since', () => {
    const linkage = parent();
    const image = openWritableImage(vhdx, join(dir, 'parent.vhdx'));
    image.write(Uint8Array.of(1), 0);
    image.close();
    expect(() => openImage(vhdx, child(linkage))).toThrow(/parent "parent.vhdx" has data write id .*, expected/);
  });
});

it('has sectors of 4096 bytes where the image says so', () => {
  const path = make('4k.vhdx', 4 * MIB);
  change(path, (b) => {
    b.writeUInt32LE(4096, ITEMS + 32);
    b.writeUInt32LE(4096, ITEMS + 36);
  });
  const image = openWritableImage(vhdx, path);
  expect(image.sectorSize).toBe(4096);
  image.write(new Uint8Array(5000).fill(4), 2 * MIB - 2000);
  image.close();
  const again = openImage(vhdx, path);
  const b = new Uint8Array(5002);
  again.read(b, 2 * MIB - 2001);
  expect([b[0], b[1], b[5000], b[5001]]).toEqual([0, 4, 4, 0]);
  again.close();
});

it('gives the file and its data new write ids with the first write, and none without', () => {
  const path = make('ids.vhdx', 4 * MIB);
  const ids = () => {
    const h = current(readFileSync(path));
    return [guidText(h.fileWriteGuid), guidText(h.dataWriteGuid)];
  };
  const before = ids();
  openWritableImage(vhdx, path).close();
  expect(ids()).toEqual(before);
  const image = openWritableImage(vhdx, path);
  image.write(Uint8Array.of(1), 0);
  image.close();
  const after = ids();
  expect(after[0]).not.toBe(before[0]);
  expect(after[1]).not.toBe(before[1]);
});

it('reads with either header and either region table, and refuses what it must know and does not', () => {
  const path = make('headers.vhdx', 4 * MIB);
  const whole = readFileSync(path);
  for (const at of [...HEADERS, ...REGION_TABLES]) {
    const b = Buffer.from(whole);
    b[at + 20]! ^= 0xff;
    writeFileSync(path, b);
    openImage(vhdx, path).close();
  }
  const refused = (edit: (b: Buffer) => void, message: RegExp) => {
    writeFileSync(path, whole);
    change(path, edit);
    expect(() => openImage(vhdx, path)).toThrow(message);
  };
  refused((b) => {
    for (const at of REGION_TABLES) b.fill(0x77, at + 16, at + 32);
  }, /required VHDX region 77777777/);
  refused((b) => b.fill(0x77, META + 32 + 96, META + 32 + 112), /required VHDX metadata item 77777777/);
  refused((b) => b.writeUInt32LE(3 * MIB, ITEMS), /block size 3145728 is not a power of two/);
  refused((b) => b.writeUInt32LE(1024, ITEMS + 32), /logical sector size is 1024/);
  refused((b) => {
    for (const at of HEADERS) b.fill(0x11, at + 48, at + 64);
  }, /no valid sequence of entries/);
});

for (const e of sharedEntries().filter((x) => x.kind === 'vhdx' && x.bad))
  itIf(hasSharedData(), noSharedData)(`answers damaged ${e.name} with an error of ours or with bytes`, () => {
    const both = e.name.includes('both-headers');
    try {
      const image = openImage(vhdx, sharedFile(e.name));
      image.read(new Uint8Array(4096), 0);
      image.close();
      expect(both).toBe(false);
    } catch (error) {
      expect(error).toBeInstanceOf(GuestError);
      expect(both).toBe(true);
    }
  });
