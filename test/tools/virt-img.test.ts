import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const dir = temporaryFolder();
const at = (name: string) => join(dir, name);
const qemuIt = itNeeds('qemu-img', 'qemu-io');
const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC' };
const qemu = (...args: string[]) => run('qemu-img', args, { cwd: dir });
const img = (...args: string[]) => {
  const r = tool('virt-img', args, { cwd: dir });
  if (r.status !== 0) throw new Error(`virt-img ${args.join(' ')}: ${r.status}\n${r.stderr}${r.stdout}`);
  return r.stdout;
};

/** The disk that most images here hold: patterns at odd places, a written zero, a hole to the end. */
const WRITES = ['write -P 1 0 64k', 'write -P 2 1000k 3000k', 'write -P 3 5M 512', 'write -z 6M 1M', 'write -P 4 20479k 1k'];
const SIZE = 20 << 20;

function made(name: string, format: string, ...create: string[]): string {
  const path = at(name);
  if (existsSync(path)) return path;
  qemu('create', '-q', '-f', format, ...create, path, `${SIZE}`);
  run('qemu-io', ['-f', format, ...WRITES.flatMap((w) => ['-c', w]), path]);
  return path;
}

/** Images by qemu-img over formats and settings. */
const MATRIX: readonly (readonly [name: string, format: string, options: string])[] = [
  ['raw', 'raw', ''],
  ['v3', 'qcow2', ''],
  ['v2', 'qcow2', 'compat=0.10'],
  ['small', 'qcow2', 'cluster_size=4k,refcount_bits=8'],
  ['large', 'qcow2', 'cluster_size=1M,lazy_refcounts=on'],
  ['sub', 'qcow2', 'extended_l2=on,cluster_size=128k'],
  ['zstd', 'qcow2', 'compression_type=zstd'],
  ['meta', 'qcow2', 'preallocation=metadata'],
  ['vmdk', 'vmdk', ''],
  ['flat', 'vmdk', 'subformat=monolithicFlat'],
  ['split', 'vmdk', 'subformat=twoGbMaxExtentSparse'],
  ['vpc', 'vpc', ''],
  ['vhdx', 'vhdx', ''],
  ['vdi', 'vdi', ''],
  ['vdi-static', 'vdi', 'static=on'],
];
const image = ([name, format, options]: (typeof MATRIX)[number]) =>
  made(`m-${name}.${format}`, format, ...(options === '' ? [] : ['-o', options]));
const json = (text: string): unknown => JSON.parse(text);

describe('virt-img tells what qemu-img tells', () => {
  for (const row of MATRIX) {
    qemuIt(`info of ${row[0]} ${row[1]}: JSON and text`, () => {
      const path = image(row);
      expect(json(img('info', '--output=json', path))).toEqual(json(qemu('info', '--output=json', path)));
      expect(img('info', path)).toBe(qemu('info', path));
    });
    // VHDX: QEMU does not know which blocks are zero and calls all of it data; it does not check VHD at all.
    if (row[1] !== 'vhdx')
      qemuIt(`map of ${row[0]} ${row[1]}`, () => {
        const path = image(row);
        const ours = json(img('map', '--output=json', path)) as { compressed?: boolean }[];
        // Newer versions of QEMU say "compressed" too.
        for (const e of ours) delete e.compressed;
        expect(ours).toEqual(json(qemu('map', '--output=json', path)));
        expect(img('map', path)).toBe(qemu('map', path));
        const part = ['map', '--output=json', '--start-offset=1M', '--max-length=2M', path];
        const ourPart = json(img(...part)) as { compressed?: boolean }[];
        for (const e of ourPart) delete e.compressed;
        expect(ourPart).toEqual(json(qemu(...part)));
      });
    if (row[1] !== 'vpc')
      qemuIt(`check of ${row[0]} ${row[1]}`, () => {
        const path = image(row);
        const q = spawnSync('qemu-img', ['check', '--output=json', path], { env });
        const v = tool('virt-img', ['check', '--output=json', path]);
        expect(v.status).toBe(q.status);
        if (q.status === 0) {
          expect(json(v.stdout)).toEqual(json(q.stdout.toString()));
          expect(img('check', path)).toBe(qemu('check', path));
        }
      });
    qemuIt(`measure of ${row[0]} ${row[1]}`, () => {
      const path = image(row);
      for (const more of [
        [],
        ['-O', 'qcow2', '-o', 'cluster_size=4k,refcount_bits=64'],
        ['-O', 'qcow2', '-o', 'cluster_size=2M,extended_l2=on'],
        ...(row[0] === 'v3'
          ? [
              ['-O', 'qcow2', '-o', 'preallocation=full'],
              ['-O', 'qcow2', '-o', 'compat=0.10'],
            ]
          : []),
      ]) {
        // QEMU takes all of a VHDX for data.
        if (row[1] === 'vhdx' && more.length > 0) continue;
        expect(json(img('measure', '--output=json', ...more, path)), more.join(' ')).toEqual(
          json(qemu('measure', '--output=json', ...more, path)),
        );
      }
    });
  }

  qemuIt('measure of sizes from nothing to many terabytes', () => {
    for (const size of ['0', '512', '1G', '100G', '8T'])
      for (const options of ['cluster_size=64k', 'cluster_size=2M,refcount_bits=1', 'cluster_size=64k,extended_l2=on']) {
        const args = ['measure', '--output=json', '-O', 'qcow2', '-o', options, '--size', size];
        expect(json(img(...args)), args.join(' ')).toEqual(json(qemu(...args)));
      }
    expect(img('measure', '-O', 'raw', '--size', '10M')).toBe(qemu('measure', '-O', 'raw', '--size', '10M'));
    expect(tool('virt-img', ['measure', '-O', 'vmdk', '--size', '10M']).status).toBe(1);
  });

  qemuIt('info, map and snapshot list of a chain with snapshots and bitmaps', () => {
    const base = made('chain-base.qcow2', 'qcow2');
    const mid = at('chain-mid.qcow2');
    const top = at('chain-top.qcow2');
    qemu('create', '-q', '-f', 'qcow2', '-b', 'chain-base.qcow2', '-F', 'qcow2', mid);
    qemu('create', '-q', '-f', 'qcow2', '-b', mid, '-F', 'qcow2', '-o', 'lazy_refcounts=on', top);
    run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 512k 1M', mid]);
    run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 8 4M 1M', '-c', 'write -z 0 64k', top]);
    qemu('snapshot', '-c', 'first', base);
    qemu('snapshot', '-c', 'second with a long name', base);
    qemu('bitmap', '--add', '-g', '128k', base, 'bm0');
    expect(json(img('info', '--backing-chain', '--output=json', top))).toEqual(
      json(qemu('info', '--backing-chain', '--output=json', top)),
    );
    expect(img('info', '--backing-chain', top)).toBe(qemu('info', '--backing-chain', top));
    expect(img('snapshot', '-l', base)).toBe(qemu('snapshot', '-l', base));
    const ours = json(img('map', '--output=json', top)) as { compressed?: boolean }[];
    for (const e of ours) delete e.compressed;
    expect(ours).toEqual(json(qemu('map', '--output=json', top)));
    expect(img('map', top)).toBe(qemu('map', top));
    expect(json(img('measure', '--output=json', '-O', 'qcow2', base))).toEqual(
      json(qemu('measure', '--output=json', '-O', 'qcow2', base)),
    );
    expect(json(img('measure', '--output=json', '-O', 'qcow2', '-l', 'first', base))).toMatchObject({
      required: expect.any(Number),
    });
  });
});

describe('what virt-img makes, QEMU takes', () => {
  for (const [name, format, options] of MATRIX)
    qemuIt(`create ${name} ${format} prints the line of qemu-img and makes what it makes`, () => {
      const more = options === '' ? [] : ['-o', options];
      const ours = img('create', '-f', format, ...more, 'created', '33M');
      const mine = readdirSync(dir).filter((f) => f.startsWith('created'));
      const info = json(qemu('info', '--output=json', '-f', format, at('created'))) as Record<string, unknown>;
      expect(info['format']).toBe(format);
      const theirs = spawnSync('qemu-img', ['create', '-f', format, ...more, 'created', '33M'], { env, cwd: dir });
      expect(ours).toBe(theirs.stdout.toString());
      const want = json(qemu('info', '--output=json', '-f', format, at('created'))) as Record<string, unknown>;
      expect(info['virtual-size']).toBe(want['virtual-size']);
      expect(info['cluster-size']).toBe(want['cluster-size']);
      expect(mine.length).toBeGreaterThan(0);
      for (const f of readdirSync(dir).filter((x) => x.startsWith('created'))) run('rm', ['-f', at(f)]);
    });

  const CONVERSIONS: readonly (readonly string[])[] = [
    ['raw'],
    ['qcow2'],
    ['qcow2', '-o', 'cluster_size=512'],
    ['qcow2', '-o', 'cluster_size=2M,extended_l2=on'],
    ['qcow2', '-o', 'compat=0.10,cluster_size=4k'],
    ['qcow2', '-o', 'preallocation=metadata'],
    ['qcow2', '-o', 'data_file=t-data.raw'],
    ['qcow2', '-c'],
    ['qcow2', '-c', '-o', 'compression_type=zstd,cluster_size=256k'],
    ['qcow2', '-S', '0'],
    ['qcow2', '-S', '256k', '-W', '-m', '4'],
    ['raw', '-S', '512'],
    ['vmdk'],
    ['vmdk', '-o', 'subformat=streamOptimized'],
    ['vmdk', '-o', 'subformat=monolithicFlat'],
    ['vmdk', '-o', 'subformat=twoGbMaxExtentFlat'],
    ['vpc', '-o', 'force_size=on'],
    ['vpc', '-o', 'subformat=fixed,force_size=on'],
    ['vhdx'],
    ['vhdx', '-o', 'subformat=fixed'],
    ['vdi'],
    ['vdi', '-o', 'static=on'],
  ];
  for (const noAddon of [false, true])
    for (const [format, ...more] of noAddon
      ? CONVERSIONS.filter((c, i) => i < 2 || c.includes('-c') || c[0] === 'vmdk')
      : CONVERSIONS)
      qemuIt(`convert to ${format} ${more.join(' ')}${noAddon ? ', without the addon' : ''}`, () => {
        const source = made('convert.qcow2', 'qcow2');
        const r = tool('virt-img', ['convert', '-O', format!, ...more, source, 't'], {
          cwd: dir,
          env: noAddon ? { GUESTWRIGHT_NO_ADDON: '1' } : {},
        });
        expect(r.stderr).toBe('');
        expect(r.status).toBe(0);
        expect(qemu('compare', '-f', 'qcow2', '-F', format!, source, at('t'))).toBe('Images are identical.\n');
        if (format !== 'raw' && format !== 'vpc') expect(qemu('check', '-f', format!, at('t'))).toContain('No errors');
        expect(img('compare', '-f', 'qcow2', '-F', format!, source, 't')).toBe('Images are identical.\n');
        if (more.includes('-c')) {
          const check = json(qemu('check', '--output=json', at('t'))) as Record<string, number>;
          expect(check['compressed-clusters']).toBeGreaterThan(10);
        }
        if (format === 'raw' && !more.includes('0')) expect(statSync(at('t')).blocks * 512).toBeLessThan(8 << 20);
        if (more.includes('-S') && more.includes('0')) expect(statSync(at('t')).size).toBeGreaterThanOrEqual(SIZE);
        expect(readdirSync(dir).filter((f) => f.endsWith('.partial'))).toEqual([]);
        for (const f of readdirSync(dir).filter((x) => x === 't' || x.startsWith('t-'))) run('rm', ['-f', at(f)]);
      });

  for (const row of MATRIX)
    qemuIt(`convert from ${row[0]} ${row[1]}`, () => {
      const path = image(row);
      img('convert', '-f', row[1], '-O', 'raw', path, 'from.raw');
      qemu('convert', '-f', row[1], '-O', 'raw', path, at('from-qemu.raw'));
      expect(run('cmp', [at('from.raw'), at('from-qemu.raw')])).toBe('');
    });

  qemuIt('convert from compressed images, deflate and zstd, with clusters that do not compress', () => {
    const path = made('compress-me.raw', 'raw');
    const noise = Buffer.alloc(1 << 20);
    for (let i = 0, x = 7; i < noise.length; i++) noise[i] = (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24;
    const raw = readFileSync(path);
    noise.copy(raw, 9 << 20);
    writeFileSync(path, raw);
    for (const options of ['compression_type=zlib', 'compression_type=zstd', 'compression_type=zlib,cluster_size=4k']) {
      qemu('convert', '-c', '-O', 'qcow2', '-o', options, path, at('c-qemu.qcow2'));
      img('convert', '-c', '-O', 'qcow2', '-o', options, path, 'c-ours.qcow2');
      for (const f of ['c-qemu.qcow2', 'c-ours.qcow2']) {
        img('convert', '-O', 'raw', f, 'c.raw');
        expect(readFileSync(at('c.raw')).equals(raw), f).toBe(true);
        expect(qemu('compare', path, at(f), '-f', 'raw')).toBe('Images are identical.\n');
        expect(qemu('check', at(f))).toContain('No errors');
      }
    }
  });
});
