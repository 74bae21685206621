import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { GuestError } from '../../lib/core/errors.js';
import { StreamOptimizedWriter, vmdk } from '../../lib/image/vmdk/index.js';
import { createImage, expectRunsAgree, openImage, openWritableImage, sha256Of } from '../conformance/image.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
let n = 0;
const folder = () => {
  const f = join(dir, `${++n}`);
  mkdirSync(f);
  return f;
};
const qemuSha = (path: string): string => {
  const raw = `${path}.raw`;
  run('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', path, raw]);
  const f = openFile(raw);
  try {
    return sha256Of(f);
  } finally {
    f.close();
  }
};
const ourSha = (path: string): string => {
  const image = openImage(vmdk, path);
  try {
    expectRunsAgree(image);
    return sha256Of(image);
  } finally {
    image.close();
  }
};
const bytesAt = (path: string, at: number, length: number): Uint8Array => {
  const image = openImage(vmdk, path);
  try {
    const b = new Uint8Array(length);
    image.read(b, at);
    return b;
  } finally {
    image.close();
  }
};

describe('parents', () => {
  const chain = () => {
    const f = folder();
    const base = join(f, 'base.vmdk');
    const delta = join(f, 'delta.vmdk');
    run('qemu-img', ['create', '-q', '-f', 'vmdk', base, '4M']);
    run('qemu-io', ['-f', 'vmdk', '-c', 'write -P 17 0 1M', base]);
    run('qemu-img', ['create', '-q', '-f', 'vmdk', '-F', 'vmdk', '-b', 'base.vmdk', delta], { cwd: f });
    return { f, base, delta };
  };

  itNeeds('qemu-img', 'qemu-io')('reads through a parent, copies up what a partial write leaves, as qemu-img sees it', () => {
    const { delta } = chain();
    run('qemu-io', ['-f', 'vmdk', '-c', 'write -P 18 64k 4k', delta]);
    expect(ourSha(delta)).toBe(qemuSha(delta));
    const image = openWritableImage(vmdk, delta);
    expect(image.extent(0, 1000)).toMatchObject({ depth: 1, present: true, data: true });
    image.write(new Uint8Array(700).fill(19), 300_100);
    image.zero(100_000, 50_000);
    image.write(new Uint8Array(700).fill(20), 3 << 20);
    image.close();
    expect(ourSha(delta)).toBe(qemuSha(delta));
    run('qemu-img', ['check', '-q', '-f', 'vmdk', delta]);
    expect([...bytesAt(delta, 300_099, 3)]).toEqual([17, 19, 19]);
  });

  itNeeds('qemu-img', 'qemu-io')('refuses a parent that was changed after the child was made', () => {
    const { base, delta } = chain();
    const image = openWritableImage(vmdk, base);
    const before = image.describe().specific!['cid'];
    image.write(Uint8Array.of(1), 0);
    image.close();
    const after = openImage(vmdk, base);
    expect(after.describe().specific!['cid']).not.toBe(before);
    after.close();
    expect(() => openImage(vmdk, delta)).toThrow(/parent "base.vmdk" has CID 0x[0-9a-f]+, expected 0x[0-9a-f]+/);
    const alone = openImage(vmdk, delta, { noBacking: true });
    expect(alone.describe().backingName).toBe('base.vmdk');
    alone.close();
  });

  itNeeds('qemu-img', 'qemu-io')('makes a child that qemu-img takes for one of its own', () => {
    const { f, base } = chain();
    const child = join(f, 'child.vmdk');
    createImage(
      vmdk,
      child,
      { size: 4 << 20, backing: { name: 'base.vmdk', format: 'vmdk' } },
      { openBacking: () => openImage(vmdk, base) },
    );
    expect(qemuSha(child)).toBe(qemuSha(base));
  });
});

describe('descriptors', () => {
  it('take CRLF, odd spacing, unknown keys, encodings and ZERO extents', () => {
    const f = folder();
    writeFileSync(join(f, 'größe.bin'), new Uint8Array(2048).fill(5));
    const text = [
      '# Disk DescriptorFile',
      'version=1',
      'encoding="windows-1252"',
      'CID=0000abcd',
      'parentCID=ffffffff',
      'isNativeSnapshot="no"',
      'createType = "twoGbMaxExtentFlat"',
      '',
      'RW 2 ZERO',
      'RDONLY  2  FLAT  "größe.bin"  2',
      'rw 1 flat "größe.bin" 0',
      'ddb.comment = "a = b"',
      '',
    ].join('\r\n');
    const path = join(f, 'disk.vmdk');
    writeFileSync(path, Buffer.from(text, 'latin1'));
    const image = openImage(vmdk, path);
    const b = new Uint8Array(image.size);
    image.read(b, 0);
    expect(image.size).toBe(5 * 512);
    expect([b[0], b[1023], b[1024], b[2559]]).toEqual([0, 0, 5, 5]);
    expect(image.describe().specific).toMatchObject({ cid: 0xabcd, 'create-type': 'twoGbMaxExtentFlat' });
    expectRunsAgree(image);
    image.close();
  });

  it('say what they cannot mean', () => {
    const f = folder();
    const cases: [string, RegExp][] = [
      ['createType="fullDevice"\nRW 1 FLAT "/dev/sda" 0', /physical device/],
      ['createType="vmfs"\nRW 1 VMFSRDM "x"', /extent type VMFSRDM is not supported/],
      ['createType="monolithicFlat"', /names no extents/],
      ['RW 1 FLAT "x" 0', /no createType/],
      ['createType="monolithicFlat"\nRW 9999 FLAT "disk.vmdk" 0', /longer than the file/],
      ['createType="monolithicFlat"\nCID=zz\nRW 1 FLAT "disk.vmdk" 0', /CID "zz" is not/],
    ];
    for (const [text, message] of cases) {
      const path = join(f, 'disk.vmdk');
      writeFileSync(path, `# Disk DescriptorFile\nversion=1\n${text}\n`);
      expect(() => openImage(vmdk, path)).toThrow(message);
      expect(() => openImage(vmdk, path)).toThrow(GuestError);
    }
  });
});

itNeeds('qemu-img', 'qemu-io')(
  'uses the redundant grain directory where the primary one points outside, and check says so',
  () => {
    const path = join(folder(), 'disk.vmdk');
    run('qemu-img', ['create', '-q', '-f', 'vmdk', path, '64M']);
    run('qemu-io', ['-f', 'vmdk', '-c', 'write -P 9 1M 3M', '-c', 'write -P 8 40M 1M', path]);
    const before = ourSha(path);
    const b = readFileSync(path);
    const gd = Number(b.readBigUInt64LE(56)) * 512;
    b.writeUInt32LE(0x7fffffff, gd);
    writeFileSync(path, b);
    expect(ourSha(path)).toBe(before);
    const image = openImage(vmdk, path);
    expect(image.check!().corruptions).toBe(1);
    image.close();
    const writer = openWritableImage(vmdk, path);
    expect(() => writer.write(new Uint8Array(512), 8 << 20)).toThrow(/grain directory is damaged/);
    writer.close();
  },
);

itNeeds('qemu-img', 'qemu-io')('goes across the 2 GiB border of split disks', () => {
  const border = 2 ** 31;
  for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
    const path = join(folder(), 'disk.vmdk');
    createImage(vmdk, path, { size: border + (1 << 20), settings: { subformat } });
    const image = openWritableImage(vmdk, path);
    image.write(new Uint8Array(300_000).fill(7), border - 100_000);
    const runs = [image.map(border - 100_000, 300_000), image.extent(border - 1, 2)];
    expect(runs[0]!.length).toBeLessThanOrEqual(100_000);
    image.close();
    run('qemu-io', [
      '-r',
      '-f',
      'vmdk',
      '-c',
      `read -P 7 ${border - 100_000} 300000`,
      '-c',
      `read -P 0 ${border - 200_000} 100000`,
      path,
    ]);
    const text = readFileSync(path, 'utf8');
    expect(text).toContain(`RW 4194304 ${subformat.endsWith('Flat') ? 'FLAT "disk-f001.vmdk" 0' : 'SPARSE "disk-s001.vmdk"'}`);
  }
});

itNeeds('qemu-img')('streams an OVF disk in one pass that qemu-img reads back', () => {
  const path = join(folder(), 'disk.vmdk');
  const size = (70 << 20) + 512;
  const parts: Uint8Array[] = [];
  const writer = new StreamOptimizedWriter((b) => parts.push(b.slice()), { size, name: 'disk.vmdk' });
  const model = new Uint8Array(size);
  for (const [at, length, value] of [
    [1000, 200_000, 3],
    [201_000, 70, 4],
    [33 << 20, 1 << 20, 5],
    [size - 512, 512, 6],
  ] as const) {
    model.fill(value, at, at + length);
    writer.write(model.subarray(at, at + length), at);
  }
  expect(() => writer.write(new Uint8Array(1), 0)).toThrow(/stream is at/);
  writer.finish();
  writeFileSync(path, Buffer.concat(parts));
  const image = openImage(vmdk, path);
  const back = new Uint8Array(size);
  image.read(back, 0);
  expect(Buffer.compare(back, model)).toBe(0);
  expect(image.check!().problems).toEqual([]);
  image.close();
  expect(ourSha(path)).toBe(qemuSha(path));
  const cut = `${path}.cut`;
  writeFileSync(cut, Buffer.concat(parts).subarray(0, -1024));
  expect(() => openImage(vmdk, cut)).toThrow(/no footer at 0x/);
});

/** Layouts that only ESX writes: made by hand from the structures, judged by qemu-img. */
describe('ESX snapshots', () => {
  const withDescriptor = (createType: string, type: string, sectors: number, bytes: Uint8Array): string => {
    const f = folder();
    writeFileSync(join(f, 'disk-delta.vmdk'), bytes);
    const path = join(f, 'disk.vmdk');
    writeFileSync(
      path,
      `# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType="${createType}"\nRW ${sectors} ${type} "disk-delta.vmdk"\n`,
    );
    return path;
  };

  itNeeds('qemu-img')('COWD (vmfsSparse): reads as qemu-img, and writes', () => {
    const sectors = 4096 * 2 + 8;
    const b = Buffer.alloc(64 * 512);
    b.write('COWD');
    for (const [i, v] of [1, 3, sectors, 1, 4, 3, 64].entries()) b.writeUInt32LE(v, 4 + i * 4);
    // Directory at sector 4: the first table at sector 8 (32 sectors), the others missing.
    b.writeUInt32LE(8, 4 * 512);
    b.writeUInt32LE(50, 8 * 512 + 3 * 4);
    b.writeUInt32LE(51, 8 * 512 + 4 * 4);
    b.fill(0x41, 50 * 512, 51 * 512);
    b.fill(0x42, 51 * 512, 52 * 512);
    const path = withDescriptor('vmfsSparse', 'VMFSSPARSE', sectors, b);
    expect(ourSha(path)).toBe(qemuSha(path));
    expect([...bytesAt(path, 3 * 512 - 1, 2)]).toEqual([0, 0x41]);
    const image = openWritableImage(vmdk, path);
    // Into the first table, and into one that must be made.
    image.write(new Uint8Array(1500).fill(0x43), 5 * 512);
    image.write(new Uint8Array(2000).fill(0x44), 4097 * 512);
    image.close();
    expect([...bytesAt(path, 4097 * 512, 2)]).toEqual([0x44, 0x44]);
    expect(ourSha(path)).toBe(qemuSha(path));
  });

  itNeeds('qemu-img')('SESPARSE: data, zero and unmapped grains', () => {
    const grain = 8;
    const sectors = 4096 * grain * 2;
    const at = { dir: 8, tables: 16, grains: 16 + 64 * 2 };
    const b = Buffer.alloc((at.grains + grain * 4) * 512);
    const q = (offset: number, v: bigint | number) => b.writeBigUInt64LE(BigInt(v), offset);
    q(0, 0xcafebaben);
    q(8, 0x200000001n);
    for (const [offset, v] of [
      [16, sectors],
      [24, grain],
      [32, 64],
      [80, 1],
      [88, 1],
      [96, 2],
      [104, 4],
      [112, 6],
      [120, 1],
      [128, at.dir],
      [136, 1],
      [144, at.tables],
      [152, 128],
      [160, 7],
      [168, 1],
      [192, at.grains],
      [200, grain * 4],
    ] as const)
      q(offset, v);
    q(512, 0xcafecafen);
    q(at.dir * 512, 0x1000000000000001n);
    // Entry: type in the top 4 bits, then the low 12 bits of the grain number, then its high 48.
    const data = (g: number) => (3n << 60n) | (BigInt(g & 0xfff) << 48n) | BigInt(g >> 12);
    const table = (at.tables + 64) * 512;
    q(table + 0 * 8, data(2));
    q(table + 1 * 8, data(3));
    q(table + 2 * 8, 2n << 60n);
    q(table + 3 * 8, 1n << 60n);
    q(table + 5 * 8, data(1));
    for (let g = 0; g < 4; g++) b.fill(0x60 + g, (at.grains + g * grain) * 512, (at.grains + (g + 1) * grain) * 512);
    const path = withDescriptor('seSparse', 'SESPARSE', sectors, b);
    expect([0, 4096, 8192, 4096 * 5].map((o) => bytesAt(path, o, 1)[0])).toEqual([0x62, 0x63, 0, 0x61]);
    const image = openImage(vmdk, path);
    expect(image.extent(0, image.size)).toMatchObject({ length: 8192, data: true, offset: (at.grains + 2 * grain) * 512 });
    image.close();
    expect(ourSha(path)).toBe(qemuSha(path));
  });
});

for (const e of sharedEntries().filter((x) => x.kind === 'vmdk' && x.bad))
  itIf(hasSharedData(), noSharedData)(`answers damaged ${e.name} with an error of ours or with bytes`, () => {
    const path = sharedFile(e.name);
    try {
      const image = openImage(vmdk, path, {
        openReference: (r) => {
          throw new GuestError('denied', `${r.name} may not be opened`);
        },
      });
      image.check!();
      try {
        image.read(new Uint8Array(4096), 0);
        image.read(new Uint8Array(4096), Math.max(0, image.size - 4096));
      } finally {
        image.close();
      }
    } catch (error) {
      expect(error).toBeInstanceOf(GuestError);
    }
  });
