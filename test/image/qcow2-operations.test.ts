import { copyFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFileWritable } from '../../lib/block/file.js';
import { openImage } from '../../lib/image/open.js';
import type { Qcow2Image } from '../../lib/image/qcow2/index.js';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { all, makeQcow2, mutate, openRw, qemuCheck, qemuRaw, random } from './qcow2-helpers.js';

const dir = temporaryFolder();
const SIZE = 2 * 1024 * 1024;
const same = (a: Uint8Array, b: Uint8Array) => expect(Buffer.compare(a, b)).toBe(0);
const clean = (path: string) => expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
const info = (path: string) => JSON.parse(run('qemu-img', ['info', '--output=json', path]));
/** Opened, asked, closed: an image left open keeps its lock. */
function ask<T>(path: string, question: (image: Qcow2Image) => T): T {
  const image = openImage(path, { forCheck: true }) as Qcow2Image;
  try {
    return question(image);
  } finally {
    image.close();
  }
}
const checkOf = (path: string) => ask(path, (i) => i.check());
const infoOf = (path: string) => ask(path, (i) => i.describe());
let n = 0;
const file = (what: string) => join(dir, `${what}-${n++}.qcow2`);
function fresh(settings: Record<string, string> = {}, seed = 5): { path: string; model: Uint8Array } {
  const path = file('op');
  makeQcow2(path, SIZE, settings);
  const model = new Uint8Array(SIZE);
  const image = openRw(path);
  mutate(image, model, random(seed), 30);
  image.close();
  return { path, model };
}

describe('internal snapshots', () => {
  for (const [name, settings] of Object.entries({
    defaults: {},
    small: { cluster_size: '512' },
    subclusters: { extended_l2: 'on' },
    'version 2': { compat: '0.10' },
    '4-bit refcounts': { refcount_bits: '4', cluster_size: '4k' },
  } as Record<string, Record<string, string>>))
    itNeeds('qemu-img')(`create, read, apply, delete: ${name}`, () => {
      const { path, model } = fresh(settings);
      const first = model.slice();
      let image = openRw(path);
      image.createSnapshot('one');
      expect(image.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      mutate(image, model, random(6), 30);
      const second = model.slice();
      image.createSnapshot('two');
      mutate(image, model, random(7), 30);
      same(all(image), model);
      image.close();
      clean(path);
      same(qemuRaw(path, join(dir, 's.raw'), ['-l', 'snapshot.name=one']), first);
      expect(info(path).snapshots.map((x: { name: string }) => x.name)).toEqual(['one', 'two']);
      image = openRw(path);
      const view = image.openSnapshot('one');
      const b = new Uint8Array(SIZE);
      view.read(b, 0);
      same(b, first);
      image.applySnapshot('two');
      same(all(image), second);
      image.close();
      clean(path);
      same(qemuRaw(path, join(dir, 's.raw')), second);
      image = openRw(path);
      image.deleteSnapshot('one');
      expect(image.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      model.set(second);
      mutate(image, model, random(8), 20);
      image.deleteSnapshot('2');
      expect(image.snapshots).toEqual([]);
      same(all(image), model);
      image.close();
      clean(path);
      same(qemuRaw(path, join(dir, 's.raw')), model);
    });
  itNeeds('qemu-img')("QEMU's snapshots are applied and deleted", () => {
    const { path, model } = fresh();
    run('qemu-img', ['snapshot', '-c', 'a', path]);
    run('qemu-io', ['-c', 'write -P 7 0 300k', path]);
    const image = openRw(path);
    image.applySnapshot('a');
    same(all(image), model);
    image.deleteSnapshot('a');
    image.close();
    clean(path);
  });
  it('refcounts of one bit refuse a snapshot and leave the image clean', () => {
    const { path, model } = fresh({ refcount_bits: '1' });
    const image = openRw(path);
    expect(() => image.createSnapshot('x')).toThrow(/no further snapshot/);
    expect(image.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    same(all(image), model);
    image.close();
  });
});

describe('bitmaps', () => {
  itNeeds('qemu-img')('added here, known to QEMU; writes mark what they touch', () => {
    const { path } = fresh();
    let image = openRw(path);
    image.addBitmap('b0', { granularity: 65536 });
    image.addBitmap('off', { granularity: 4096, disabled: true });
    image.write(new Uint8Array(10).fill(1), 5 * 65536 + 3);
    image.zero(20 * 65536, 65536 * 2);
    image.close();
    clean(path);
    expect(info(path)['format-specific'].data.bitmaps).toEqual([
      { flags: ['auto'], name: 'b0', granularity: 65536 },
      { flags: [], name: 'off', granularity: 4096 },
    ]);
    image = openRw(path);
    const bits = image.readBitmap('b0');
    const set = [...Array(32).keys()].filter((i) => bits[i >> 3]! & (1 << (i & 7)));
    expect(set).toEqual([5, 20, 21]);
    expect(image.readBitmap('off').every((x) => x === 0)).toBe(true);
    image.mergeBitmap('off', 'b0');
    image.clearBitmap('b0');
    image.enableBitmap('b0', false);
    image.close();
    clean(path);
    const read = openImage(path) as Qcow2Image;
    expect(read.readBitmap('b0').every((x) => x === 0)).toBe(true);
    const merged = read.readBitmap('off');
    for (const i of [5, 20, 21]) expect(merged[(i * 16) >> 3]).toBe(255);
    expect(read.bitmaps.map((x) => x.enabled)).toEqual([false, false]);
    read.close();
    run('qemu-img', ['bitmap', '--enable', path, 'off']);
    run('qemu-io', ['-c', 'write -P 9 0 4k', path]);
    const again = openRw(path);
    expect(again.readBitmap('off')[0]! & 1).toBe(1);
    again.resize(SIZE * 2);
    again.removeBitmap('b0');
    again.removeBitmap('off');
    again.close();
    clean(path);
    expect(info(path)['format-specific'].data.bitmaps).toBeUndefined();
  });
  it('a bitmap that was not stored is inconsistent, and can only be removed', () => {
    const { path } = fresh();
    const image = openRw(path);
    image.addBitmap('b');
    image.close();
    const copy = file('unstored');
    const open = openRw(path);
    open.write(new Uint8Array(1), 0);
    open.flush();
    copyFileSync(path, copy);
    open.close();
    const broken = openRw(copy);
    expect(broken.bitmaps).toMatchObject([{ name: 'b', inUse: true }]);
    expect(() => broken.clearBitmap('b')).toThrow(/inconsistent/);
    broken.removeBitmap('b');
    broken.close();
    expect(checkOf(copy)).toMatchObject({ corruptions: 0, leaks: 0 });
  });
});

describe('size', () => {
  for (const [name, settings] of Object.entries({
    defaults: {},
    small: { cluster_size: '512' },
    subclusters: { extended_l2: 'on' },
  } as Record<string, Record<string, string>>))
    itNeeds('qemu-img')(`shrinks, grows, and what comes back is zero: ${name}`, () => {
      const { path, model } = fresh(settings);
      const image = openRw(path);
      image.resize(SIZE / 2 + 512);
      image.close();
      clean(path);
      same(qemuRaw(path, join(dir, 'z.raw')), model.subarray(0, SIZE / 2 + 512));
      const again = openRw(path);
      again.resize(SIZE * 3);
      const want = new Uint8Array(SIZE * 3);
      want.set(model.subarray(0, SIZE / 2 + 512));
      same(all(again), want);
      again.resize(SIZE * 4, 'metadata');
      again.close();
      clean(path);
      same(qemuRaw(path, join(dir, 'z.raw')).subarray(0, SIZE * 3), want);
    });
  itNeeds('qemu-img')('growing over a longer backing file reads as zeroes', () => {
    const { path: base } = fresh();
    const top = file('top');
    makeQcow2(top, SIZE / 2, {}, { backing: { name: base, format: 'qcow2' } });
    const image = openRw(top);
    image.resize(SIZE);
    expect(
      all(image)
        .subarray(SIZE / 2)
        .every((x) => x === 0),
    ).toBe(true);
    image.close();
    clean(top);
  });
  it('refcount tables grow', () => {
    const path = file('growth');
    // One 512-byte table cluster of 64-bit counts covers 64 * 64 clusters of 512 bytes: 2 MiB.
    makeQcow2(path, 16 << 20, { cluster_size: '512', refcount_bits: '64' });
    const image = openRw(path);
    const data = new Uint8Array(16 << 20).fill(0xa7);
    image.write(data, 0);
    expect(image.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    image.close();
    clean(path);
  });
});

describe('amend', () => {
  itNeeds('qemu-img')('version, refcount width, lazy refcounts, backing file', () => {
    const { path, model } = fresh({ compat: '0.10' });
    let image = openRw(path);
    image.createSnapshot('s');
    image.amend({ compat: '1.1', lazy_refcounts: 'on' });
    image.amend({ refcount_bits: '64' });
    image.close();
    clean(path);
    expect(info(path)['format-specific'].data).toMatchObject({ compat: '1.1', 'lazy-refcounts': true, 'refcount-bits': 64 });
    image = openRw(path);
    mutate(image, model, random(77), 30);
    image.amend({ refcount_bits: '16' });
    image.amend({ compat: 'v2' });
    image.close();
    clean(path);
    expect(info(path)['format-specific'].data).toMatchObject({ compat: '0.10', 'refcount-bits': 16 });
    same(qemuRaw(path, join(dir, 'a.raw')), model);
    image = openRw(path);
    image.changeBacking('other.raw', 'raw');
    image.close();
    expect(info(path)).toMatchObject({ 'backing-filename': 'other.raw', 'backing-filename-format': 'raw' });
  });
  it('key slots are added and erased; the last one stays', () => {
    const path = file('keys');
    const bytes = (s: string) => new TextEncoder().encode(s);
    makeQcow2(path, SIZE, { 'encrypt.format': 'luks', 'encrypt.iter-time': '10' }, { secret: 'first' });
    const image = openRw(path, 'first');
    image.amendKeySlots({ state: 'active', newSecret: bytes('second'), current: bytes('first'), iterMs: 10 });
    image.amendKeySlots({ state: 'inactive', oldSecret: bytes('first') });
    expect(() => image.amendKeySlots({ state: 'inactive', slot: 1 })).toThrow(/last key/);
    image.close();
    expect(() => openRw(path, 'first')).toThrow(/no key slot/);
    openRw(path, 'second').close();
  });
});

describe('check and repair', () => {
  const damage = (path: string, body: (f: ReturnType<typeof openFileWritable>, image: Qcow2Image) => void) => {
    const image = openImage(path) as Qcow2Image;
    const f = openFileWritable(path);
    body(f, image);
    f.close();
    image.close();
  };
  const repairWith = (path: string, what: 'leaks' | 'all') => {
    const image = openImage(path, { writable: true, forCheck: true });
    const result = image.repair!(what);
    image.close();
    return result;
  };
  itNeeds('qemu-img')('leaks are freed', () => {
    const { path, model } = fresh();
    damage(path, (f, image) => {
      // A stored count raised in the first refcount block, for a cluster that is free.
      const at = image.refcounts.blockOffset(0);
      f.write(Uint8Array.of(0, 1), at + 2 * 30);
      f.write(Uint8Array.of(0, 9), at + 2 * 1);
    });
    const before = qemuCheck(path);
    const ours = checkOf(path);
    expect(ours).toMatchObject({ leaks: before.leaks, corruptions: before.corruptions });
    expect(before.leaks).toBeGreaterThan(0);
    expect(repairWith(path, 'leaks')).toMatchObject({ leaks: 0, leaksFixed: before.leaks });
    clean(path);
    same(qemuRaw(path, join(dir, 'l.raw')), model);
  });
  for (const [name, body] of Object.entries({
    'counts of zero': (f, image) => f.write(new Uint8Array(512), image.refcounts.blockOffset(0)),
    'a block that points nowhere': (f, image) =>
      f.write(Uint8Array.of(0, 0, 0, 0, 0x7f, 0, 0, 0), image.header.refcountTableOffset),
    'a block that is not aligned': (f, image) => f.write(Uint8Array.of(0, 0, 0, 0, 0, 1, 2, 0), image.header.refcountTableOffset),
    'a table full of zeroes': (f, image) => f.write(new Uint8Array(512), image.header.refcountTableOffset),
    'a table of no clusters': (f) => f.write(new Uint8Array(4), 56),
    'a table that is not aligned': (f) => f.write(Uint8Array.of(0, 0, 0, 0, 0, 1, 2, 8), 48),
  } as Record<string, (f: ReturnType<typeof openFileWritable>, image: Qcow2Image) => void>))
    itNeeds('qemu-img')(`refcounts are rebuilt: ${name}`, () => {
      const { path, model } = fresh();
      damage(path, body);
      const result = repairWith(path, 'all');
      expect(result).toMatchObject({ corruptions: 0, leaks: 0 });
      expect(result.corruptionsFixed).toBeGreaterThan(0);
      clean(path);
      same(qemuRaw(path, join(dir, 'l.raw')), model);
    });
  it('a marked image can be read, not written, until it is repaired', () => {
    const { path, model } = fresh();
    damage(path, (f) => f.write(Uint8Array.of(2), 79));
    const image = openImage(path);
    expect(image.describe().corrupt).toBe(true);
    same(all(image), model);
    image.close();
    expect(() => openRw(path)).toThrow(/marked corrupt/);
    repairWith(path, 'all');
    openRw(path).close();
    expect(infoOf(path).corrupt).toBe(false);
  });
  it('guest data over metadata is refused and marks the image', () => {
    const { path } = fresh();
    damage(path, (f, image) => {
      const l1 = image.state.l1;
      const l2 = l1.target(0);
      // Guest cluster 3 now claims the L1 table's cluster.
      const e = new Uint8Array(8);
      new DataView(e.buffer).setBigUint64(0, 0x8000000000000000n | BigInt(l1.offset));
      f.write(e, l2 + 3 * 8);
    });
    const image = openRw(path);
    expect(() => image.write(new Uint8Array(512), 3 * 65536)).toThrow(/overwrite metadata/);
    expect(() => image.close()).not.toThrow(/internal/);
    expect(infoOf(path).corrupt).toBe(true);
  });
  it('a dirty image with stale counts is repaired by opening it for writing', () => {
    const { path, model } = fresh({ lazy_refcounts: 'on' });
    const image = openRw(path);
    mutate(image, model, random(31), 20);
    image.flush();
    const copy = file('dirty');
    copyFileSync(path, copy);
    image.close();
    expect(infoOf(copy).dirty).toBe(true);
    const again = openRw(copy);
    same(all(again), model);
    again.close();
    expect(infoOf(copy).dirty).toBe(false);
    expect(checkOf(copy)).toMatchObject({ corruptions: 0, leaks: 0 });
  });
  it('an image cut off says so', () => {
    const { path } = fresh();
    const image = openImage(path);
    const size = image.file.size;
    image.close();
    truncateSync(path, Math.floor(size / 2 / 65536) * 65536);
    expect(() => all(openImage(path))).toThrow(/past the end of the file/);
  });
});
