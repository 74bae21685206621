import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, openSync, readFileSync, readSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { GuestError } from '../../lib/core/errors.js';
import type { Node } from '../../lib/filesystem/driver.js';
import { probeFileSystem } from '../../lib/filesystem/registry.js';
import { checksumOf } from '../../lib/filesystem/xfs/checksum.js';
import { foldAscii, foldedHash, nameHash } from '../../lib/filesystem/xfs/hash.js';
import { xfs } from '../../lib/filesystem/xfs/index.js';
import { bigTime } from '../../lib/filesystem/xfs/inode.js';
import {
  at,
  contentsOf,
  differencesFromMount,
  entriesOf,
  kernelUsage,
  mounted,
  namesOf,
  whyNoMount,
} from '../conformance/filesystem.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedEntry, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { collidingNames, kernelXfs, makeXfs, withXfs } from './xfs-tree.js';

const needsMkfs = itNeeds('mkfs.xfs');
const noKernel = hasTool('mkfs.xfs') ? whyNoMount() : 'mkfs.xfs not installed';
const needsKernel = itIf(noKernel === '', noKernel);

const errorOf = (body: () => unknown): GuestError => {
  try {
    body();
  } catch (e) {
    if (e instanceof GuestError) return e;
    throw e;
  }
  throw new Error('no error');
};

/** Changes bytes of an image file; with `seal` the checksum of the superblock at the same sector is put right. */
function edit(image: string, offset: number, bytes: readonly number[], seal?: 'seal'): void {
  const fd = openSync(image, 'r+');
  writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
  if (seal !== undefined) {
    const sector = new Uint8Array(512);
    readSync(fd, sector, 0, 512, 0);
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(checksumOf(sector, 224));
    writeSync(fd, crc, 0, 4, 224);
  }
  closeSync(fd);
}

describe('xfs times and hashes', () => {
  it('divides 64 bits of nanoseconds without loss', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (ns) => {
        const t = bigTime(Number(ns >> 32n), Number(ns & 0xffffffffn));
        expect(BigInt(t.sec) * 1_000_000_000n + BigInt(t.nsec)).toBe(ns - 2n ** 31n * 1_000_000_000n);
        expect(t.nsec).toBeLessThan(1_000_000_000);
      }),
    );
  });
  it('gives one hash to names made to collide, and to names that differ in case where that is ignored', () => {
    expect(new Set(collidingNames(1024).map((n) => nameHash(n))).size).toBe(1);
    expect(new Set(collidingNames(1024).map((n) => n.toString('hex'))).size).toBe(1024);
    expect(foldedHash(Buffer.from('ReadMe'), foldAscii)).toBe(foldedHash(Buffer.from('rEADmE'), foldAscii));
    expect(foldedHash(Buffer.from('ReadMe'), foldAscii)).not.toBe(foldedHash(Buffer.from('ReadMf'), foldAscii));
  });
});

describe('xfs superblocks', () => {
  const dir = temporaryFolder();
  const image = join(dir, 'image');
  const fresh = (options: readonly string[] = []) => makeXfs(image, options, '320M');

  needsMkfs('is recognised with UUID and label, and by nobody else', () => {
    fresh(['-L', 'label', '-m', 'uuid=01234567-89ab-4def-8123-456789abcdef']);
    const source = openFile(image);
    expect(probeFileSystem(source)).toEqual({ type: 'xfs', uuid: '01234567-89ab-4def-8123-456789abcdef', label: 'label' });
    source.close();
    for (const bytes of [new Uint8Array(0), new Uint8Array(4), new Uint8Array(1 << 20), Buffer.from('XFSB'.repeat(300))])
      expect(xfs.probe(new MemorySource(bytes))).toBeUndefined();
    expect(errorOf(() => xfs.open(new MemorySource(1 << 20))).code).toBe('wrong-format');
  });

  needsMkfs('uses a secondary superblock when the primary is damaged, and counts the free space itself', () => {
    for (const [what, offset, bytes] of [
      ['checksum', 224, [1, 2, 3, 4]],
      ['number of groups', 88, [0, 0, 0, 0]],
      ['block size', 4, [0, 0, 0, 7]],
      ['everything', 0, Array.from({ length: 512 }, () => 0)],
    ] as const) {
      fresh(['-d', 'agcount=4']);
      const before = withXfs(image, (fs) => fs.usage());
      edit(image, offset, bytes);
      withXfs(image, (fs) => {
        expect(fs.problems[0], what).toMatch(
          /^the primary superblock is damaged \(.*\); the one at 0x[0-9a-f]+ is used instead$/,
        );
        expect(fs.problems.length, what).toBe(1);
        expect(namesOf(fs.root)).toEqual([]);
        expect(fs.usage(), what).toEqual(before);
      });
    }
  });

  needsMkfs('names incompatible features it does not know', () => {
    fresh();
    const source = openFile(image);
    const known = new Uint8Array(4);
    source.read(known, 216);
    source.close();
    edit(image, 216, [0x40, 0, 0x02, known[3]!], 'seal');
    const e = errorOf(() => withXfs(image, () => undefined));
    expect([e.code, e.message]).toEqual(['unsupported', 'xfs: incompatible features zoned, bit 30 (0x40000000)']);
    fresh();
    edit(image, 216, [0, 0, 0, known[3]! | 0x10], 'seal');
    withXfs(image, (fs) => expect(fs.problems).toEqual(['the filesystem is marked as in need of xfs_repair']));
  });

  needsMkfs('says that the log is on another device, and that the device is too small', () => {
    run('truncate', ['-s', '100M', join(dir, 'log')]);
    fresh(['-l', `logdev=${join(dir, 'log')},size=90m`]);
    withXfs(image, (fs) => expect(fs.problems.join()).toContain('the log is on another device'));
    fresh();
    run('truncate', ['-s', '319M', image]);
    withXfs(image, (fs) =>
      expect(fs.problems).toEqual([`the filesystem has 81920 blocks of 4096 bytes, its device only ${319 << 20} bytes`]),
    );
  });

  itNeeds('mkfs.xfs', 'xfs_admin')('accepts a changed UUID, which leaves the old one in all blocks', () => {
    fresh();
    run('xfs_admin', ['-U', '99999999-89ab-4def-8123-456789abcdef', image]);
    withXfs(image, (fs) => {
      expect(fs.signature.uuid).toBe('99999999-89ab-4def-8123-456789abcdef');
      expect(namesOf(fs.root)).toEqual([]);
    });
  });
});

describe('xfs damage', () => {
  const dir = temporaryFolder();

  needsKernel('says where a wrong checksum is, for every kind of block, and reads what is whole', () => {
    const image = join(dir, 'damaged');
    kernelXfs(
      image,
      ['--unsupported'],
      (point) => {
        writeFileSync(join(point, 'file'), 'contents');
        writeFileSync(join(point, 'other'), 'other contents');
        run('mkdir', [join(point, 'directory')]);
        for (let i = 0; i < 100; i++) writeFileSync(join(point, 'directory', `entry-with-a-long-name-${i}`), '');
        run('ln', ['-s', 'x'.repeat(1000), join(point, 'link')]);
        run('setfattr', ['-n', 'user.big', '-v', 'v'.repeat(20000), join(point, 'other')]);
      },
      '32M',
    );
    const bytes = readFileSync(image);
    const blockWith = (magic: string) => {
      for (let o = 0; o < bytes.length; o += 4096) if (bytes.toString('latin1', o, o + 4) === magic) return o;
      throw new Error(`no block with ${magic}`);
    };
    const ino = withXfs(image, (fs) => at(fs.root, 'file').ino);
    const inodeAt = Number(/\((\d+)\)/.exec(run('xfs_db', ['-r', '-c', `convert ino ${ino} fsbyte`, image]))![1]);
    const cases: readonly [string, number, (root: Node) => unknown][] = [
      ['inode', inodeAt, (root) => at(root, 'file').stat()],
      ['directory', blockWith('XDD3'), (root) => entriesOf(at(root, 'directory'))],
      ['link', blockWith('XSLM'), (root) => at(root, 'link').target()],
      ['attribute', blockWith('XARM'), (root) => at(root, 'other').attributes()],
    ];
    for (const [what, offset, ask] of cases) {
      const copy = join(dir, 'copy');
      copyFileSync(image, copy);
      edit(copy, offset + 300, [0xaa, 0x55]);
      withXfs(copy, (fs) => {
        const e = errorOf(() => ask(fs.root));
        expect([e.code, e.where.offset], what).toEqual(['corrupt', offset]);
        expect(e.message, what).toMatch(/checksum is 0x[0-9a-f]+, expected 0x[0-9a-f]+/);
        expect(Buffer.from(contentsOf(at(fs.root, 'other'))).toString()).toBe('other contents');
      });
    }
  });

  needsKernel('does not read files on the realtime device', () => {
    const image = join(dir, 'realtime');
    kernelXfs(image, [], (point) => writeFileSync(join(point, 'file'), 'contents'));
    const ino = withXfs(image, (fs) => at(fs.root, 'file').ino);
    run('xfs_db', ['-x', '-c', `inode ${ino}`, '-c', 'write core.realtime 1', image]);
    withXfs(image, (fs) => {
      const e = errorOf(() => contentsOf(at(fs.root, 'file')));
      expect([e.code, e.message]).toEqual(['unsupported', expect.stringContaining('realtime device')]);
    });
  });

  needsKernel('shows a hole of almost the largest size in one run', () => {
    const image = join(dir, 'hole');
    const size = 2 ** 53 - 4096;
    kernelXfs(image, [], (point) => {
      run('truncate', ['-s', String(size), join(point, 'hole')]);
      run('truncate', ['-s', String(2 ** 60), join(point, 'larger')]);
    });
    withXfs(image, (fs) => {
      expect([...at(fs.root, 'hole').runs(0, size)]).toEqual([{ kind: 'zero', length: size }]);
      expect(errorOf(() => at(fs.root, 'larger').stat()).code).toBe('unsupported');
    });
  });
});

/** "<DIRTY>" and the bytes between tail and head, as xfs_logprint finds them. */
function theirLog(image: string): string {
  const loop = run('losetup', ['-r', '-f', '--show', image]).trim();
  try {
    const m = /log tail: (\d+) head: (\d+) state: <(\w+)>/.exec(run('xfs_logprint', ['-t', loop]));
    if (m === null) throw new Error('xfs_logprint does not say');
    const sectors = Number(/length: (\d+)/.exec(run('xfs_logprint', ['-t', loop]))![1]);
    const distance = (Number(m[2]) - Number(m[1]) + sectors) % sectors;
    return m[3] === 'CLEAN' ? 'clean' : `${distance * 512} bytes`;
  } finally {
    run('losetup', ['-d', loop]);
  }
}
const ourLog = (image: string): string =>
  withXfs(image, (fs) => (fs.problems.length === 0 ? 'clean' : /\((\d+ bytes) to be recovered\)/.exec(fs.problems.join())![1]!));

describe('xfs log', () => {
  const dir = temporaryFolder();
  const noTools = noKernel || (hasTool('xfs_logprint') && hasTool('xfs_io') ? '' : 'xfs_logprint or xfs_io not installed');
  for (const [name, options] of [
    ['version 2', []],
    ['with a stripe unit', ['-l', 'su=65536']],
  ] as const)
    itIf(noTools === '', noTools)(
      `is found clean or dirty as xfs_logprint finds it, round and round: ${name}`,
      () => {
        const image = join(dir, `log-${name.replaceAll(' ', '-')}`);
        makeXfs(image, ['--unsupported', ...options], '32M');
        expect(ourLog(image)).toBe('clean');
        let seed = 12345;
        const states: string[] = [];
        for (let round = 0; round < 7; round++) {
          seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
          const count = 200 + ((seed >>> 8) % 2500);
          mounted(image, 'rw', (point) => {
            for (let i = 0; i < count; i++) writeFileSync(join(point, `file-${i}`), '');
            if (round % 2 === 0) for (let i = 0; i < count; i++) unlinkSync(join(point, `file-${i}`));
            if (round % 3 !== 2) run('xfs_io', ['-x', '-c', 'shutdown -f', point]);
          });
          states.push(ourLog(image));
          expect(states.at(-1), `round ${round}`).toBe(theirLog(image));
          if (states.at(-1) !== 'clean')
            mounted(image, 'ro,norecovery', (point) =>
              withXfs(image, (fs) => {
                const u = fs.usage();
                expect([u.blockSize, u.blocks, u.free, u.available, u.files, u.freeFiles], `round ${round}`).toEqual(
                  kernelUsage(point),
                );
              }),
            );
        }
        expect(states).toContain('clean');
        expect(states.filter((s) => s !== 'clean').length).toBeGreaterThan(2);
      },
      60_000,
    );
});

describe('xfs images of others', () => {
  const test = itIf(hasSharedData(), noSharedData);
  test('reads the good ones: signature, names and contents', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'xfs' && !x.bad)) {
      withXfs(sharedFile(e.name), (fs) => {
        const { LABEL, UUID } = e.expected.blkid.values;
        expect(fs.signature, e.name).toEqual({ type: 'xfs', uuid: UUID, ...(LABEL === undefined ? {} : { label: LABEL }) });
        const tree = e.expected.tree;
        for (const file of tree?.file_sample ?? tree?.file_list ?? []) {
          const node = at(fs.root, file.path);
          const contents = contentsOf(node);
          expect(
            [contents.length, createHash('sha256').update(contents).digest('hex'), node.stat().mtime.sec],
            `${e.name}: ${file.path}`,
          ).toEqual([file.bytes, file.sha256, file.mtime]);
        }
      });
    }
  });
  test('sees that the log of made-dirtylog is dirty', () => {
    if (sharedEntry('xfs/made-dirtylog.xfs.zst') === undefined) return;
    withXfs(sharedFile('xfs/made-dirtylog.xfs.zst'), (fs) => {
      // xfs_logprint: tail at sector 2, head at sector 55.
      expect(fs.problems).toEqual([`the log is dirty (${53 * 512} bytes to be recovered); files are read as they lie on disk`]);
      expect(namesOf(fs.root)).toEqual([]);
    });
  });
  test('refuses the bad ones with errors of ours, or reads them', () => {
    const bad = sharedEntries().filter((x) => x.kind === 'xfs' && x.bad);
    for (const e of bad) {
      const source = openFile(sharedFile(e.name));
      try {
        namesOf(xfs.open(source).root);
      } catch (error) {
        expect(error, e.name).toBeInstanceOf(GuestError);
      }
      source.close();
    }
    expect(bad.length).toBeGreaterThan(0);
  });
});

describe('xfs, random trees', () => {
  const dir = temporaryFolder();
  const name = fc
    .string({ minLength: 1, maxLength: 40, unit: fc.constantFrom(...'abcXYZ012 ._-é日🙂') })
    .filter((n) => n !== '.' && n !== '..');
  const operation = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('write' as const), name, at: fc.nat(3_000_000), length: fc.nat(60_000) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ op: fc.constant('punch' as const), name, at: fc.nat(300), length: fc.integer({ min: 1, max: 50 }) }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('remove' as const), name }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('many' as const), name, count: fc.integer({ min: 1, max: 400 }) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('clone' as const), name, to: name }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('attribute' as const), name, length: fc.nat(5000) }) },
  );
  const ok = [0, 1, 2];
  const missing = noKernel || (hasTool('setfattr') ? '' : 'setfattr not installed');
  itIf(missing === '', missing)(
    'agrees with the kernel after any operations',
    () => {
      fc.assert(
        fc.property(
          fc.array(operation, { minLength: 5, maxLength: 60 }),
          fc.constantFrom('1024', '4096'),
          (operations, block) => {
            const image = join(dir, 'random');
            kernelXfs(
              image,
              ['--unsupported', '-b', `size=${block}`],
              (point) => {
                // Few names, so that operations meet.
                const path = (n: string) => join(point, `${[...n].length % 7} ${[...n][0]}`);
                for (const o of operations) {
                  if (o.op === 'write') {
                    const b = Buffer.alloc(o.length, `${o.at} `);
                    run(
                      'dd',
                      [
                        'of=' + path(o.name),
                        'bs=1',
                        `seek=${o.at}`,
                        'iflag=fullblock',
                        'oflag=seek_bytes',
                        'conv=notrunc',
                        'status=none',
                        `obs=65536`,
                      ].filter((a) => a !== 'bs=1'),
                      { input: b, ok },
                    );
                  } else if (o.op === 'punch')
                    run('fallocate', ['-p', '-o', String(o.at * 4096), '-l', String(o.length * 4096), path(o.name)], { ok });
                  else if (o.op === 'remove') run('rm', ['-rf', path(o.name)]);
                  else if (o.op === 'clone') run('cp', ['--reflink=auto', path(o.name), path(o.to)], { ok });
                  else if (o.op === 'attribute')
                    run('setfattr', ['-n', `user.${o.name.length}`, '-v', 'v'.repeat(o.length), path(o.name)], { ok });
                  else {
                    run('mkdir', ['-p', `${path(o.name)} d`]);
                    for (let i = 0; i < o.count; i++) writeFileSync(join(`${path(o.name)} d`, `${o.name} ${i}`), '');
                  }
                }
              },
              '40M',
            );
            withXfs(image, (fs) => {
              expect(fs.problems).toEqual([]);
              mounted(image, 'ro,norecovery', (point) => expect(differencesFromMount(fs.root, point)).toEqual([]));
            });
          },
        ),
        { numRuns: 8, seed: 20261124, endOnFailure: true },
      );
    },
    60_000,
  );
});
