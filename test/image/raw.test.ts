import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { openImage } from '../../lib/image/open.js';
import { raw } from '../../lib/image/raw/index.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const context = { createSibling: () => new MemorySource(0) };

describe('raw', () => {
  itNeeds('qemu-img')('an odd tail counts as a whole sector, as QEMU has it', () => {
    const path = join(dir, 'odd.raw');
    writeFileSync(path, new Uint8Array(1000).fill(7));
    const image = openImage(path);
    expect(image.size).toBe(JSON.parse(run('qemu-img', ['info', '--output=json', '-f', 'raw', path]))['virtual-size']);
    const b = new Uint8Array(1024).fill(1);
    image.read(b, 0);
    expect(b.subarray(0, 1000).every((x) => x === 7)).toBe(true);
    expect(b.subarray(1000).every((x) => x === 0)).toBe(true);
    expect(() => image.read(b, 1)).toThrow(/outside/);
    image.close();
  });
  it('writes, zeroes, and grows', () => {
    const path = join(dir, 'w.raw');
    const f = createFile(path);
    raw.create!(f, { size: 100_000 }, context);
    f.close();
    const image = openImage(path, { writable: true, format: 'raw' });
    expect(image.size).toBe(100_352);
    image.write(new Uint8Array(5000).fill(3), 90_000);
    image.zero(91_000, 10);
    image.flush();
    const b = new Uint8Array(3000);
    image.read(b, 90_000);
    expect(b.map((x, i) => (i >= 1000 && i < 1010 ? x : x - 3)).every((x) => x === 0)).toBe(true);
    (image as unknown as { resize(n: number): void }).resize(200_000);
    expect(image.size).toBe(200_192);
    image.close();
    expect(openImage(path).size).toBe(200_192);
  });
  for (const mode of ['off', 'falloc', 'full'])
    it(`preallocation ${mode}`, () => {
      const path = join(dir, `${mode}.raw`);
      const f = createFile(path);
      raw.create!(f, { size: 1 << 20, settings: { preallocation: mode } }, context);
      f.close();
      const image = openImage(path);
      let present = 0;
      for (let at = 0; at < image.size; ) {
        const e = image.extent(at, image.size - at);
        if (e.data) present += e.length;
        at += e.length;
      }
      if (mode === 'full') expect(present).toBe(1 << 20);
      image.close();
    });
  it('refuses what it cannot have', () => {
    expect(() => raw.create!(new MemorySource(0), { size: 1, backing: { name: 'a', format: 'raw' } }, context)).toThrow(
      /no backing file/,
    );
    expect(() => raw.create!(new MemorySource(0), { size: 1, settings: { preallocation: 'some' } }, context)).toThrow(
      /"some" is not known/,
    );
  });
});
