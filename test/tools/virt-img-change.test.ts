import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { packageRoot } from '../../lib/addon/load.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const dir = temporaryFolder();
const at = (name: string) => join(dir, name);
const qemuIt = itNeeds('qemu-img', 'qemu-io');
const qemu = (...args: string[]) => run('qemu-img', args, { cwd: dir });
const io = (file: string, ...commands: string[]) =>
  run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((c) => ['-c', c]), file], { cwd: dir });
const statusOf = (command: string, args: readonly string[]) =>
  spawnSync(command, args, { cwd: dir, env: { ...process.env, LC_ALL: 'C' } }).status;
const virt = (...args: string[]) => tool('virt-img', args, { cwd: dir });
const img = (...args: string[]) => {
  const r = virt(...args);
  if (r.status !== 0) throw new Error(`virt-img ${args.join(' ')}: ${r.status}\n${r.stderr}${r.stdout}`);
  return r.stdout;
};
const raw = (file: string, ...more: string[]): Buffer => {
  qemu('convert', ...more, '-O', 'raw', file, 'contents.raw');
  return readFileSync(at('contents.raw'));
};
const sound = (file: string) => expect(qemu('check', file)).toContain('No errors');

/** base (10M) <- mid <- top, each with something of its own. */
function chain(prefix: string): { base: string; mid: string; top: string } {
  const [base, mid, top] = ['base', 'mid', 'top'].map((n) => `${prefix}-${n}.qcow2`) as [string, string, string];
  qemu('create', '-q', '-f', 'qcow2', base, '10M');
  io(base, 'write -P 1 0 3M', 'write -P 2 8M 1M');
  qemu('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', mid);
  io(mid, 'write -P 3 1M 1M', 'write -z 2M 64k');
  qemu('create', '-q', '-f', 'qcow2', '-b', mid, '-F', 'qcow2', top);
  io(top, 'write -P 4 1500k 100k', 'write -P 5 9M 4k');
  return { base, mid, top };
}

describe('rebase and commit', () => {
  qemuIt('a safe rebase keeps the contents: to another base, to one lower, to none', () => {
    const { base, mid, top } = chain('rb');
    qemu('create', '-q', '-f', 'qcow2', 'rb-other.qcow2', '6M');
    io('rb-other.qcow2', 'write -P 1 0 512k', 'write -P 7 4M 1M');
    const before = raw(top);
    for (const args of [
      ['-b', 'rb-other.qcow2', '-F', 'qcow2'],
      ['-b', base, '-F', 'qcow2'],
      ['-c', '-b', ''],
    ]) {
      copyFileSync(at(top), at('rb-copy.qcow2'));
      img('rebase', ...args, 'rb-copy.qcow2');
      expect(raw('rb-copy.qcow2').equals(before), args.join(' ')).toBe(true);
      sound('rb-copy.qcow2');
    }
    expect(JSON.parse(img('info', '--output=json', 'rb-copy.qcow2'))['backing-filename']).toBeUndefined();
    img('rebase', '-u', '-b', base, '-F', 'qcow2', top);
    expect(JSON.parse(qemu('info', '--output=json', top))['backing-filename']).toBe(base);
    expect(virt('rebase', '-b', mid, top)).toMatchObject({ status: 1, stderr: expect.stringContaining('-F FORMAT') });
  });

  qemuIt('commit writes into the backing file and empties the overlay, or into a base further down', () => {
    const { base, mid, top } = chain('cm');
    const before = raw(top);
    expect(img('commit', top)).toBe('Image committed.\n');
    expect(raw(mid).equals(before)).toBe(true);
    expect(raw(top).equals(before)).toBe(true);
    expect(JSON.parse(qemu('map', '--output=json', top)).every((e: { depth: number }) => e.depth > 0)).toBe(true);
    for (const f of [base, mid, top]) sound(f);
    const deep = chain('cd');
    const wanted = raw(deep.top);
    img('commit', '-b', deep.base, deep.top);
    expect(raw(deep.base).equals(wanted)).toBe(true);
    expect(raw(deep.top).equals(wanted)).toBe(true);
    sound(deep.base);
    expect(virt('commit', deep.base).stderr).toContain('does not have a backing file');
  });

  qemuIt('commit makes a shorter base longer, and hides what lies under a shorter layer between', () => {
    qemu('create', '-q', '-f', 'qcow2', 'cs-base.qcow2', '8M');
    io('cs-base.qcow2', 'write -P 1 0 8M');
    qemu('create', '-q', '-f', 'qcow2', '-b', 'cs-base.qcow2', '-F', 'qcow2', 'cs-mid.qcow2', '4M');
    qemu('create', '-q', '-f', 'qcow2', '-b', 'cs-mid.qcow2', '-F', 'qcow2', 'cs-top.qcow2', '12M');
    io('cs-top.qcow2', 'write -P 9 10M 1M');
    const before = raw('cs-top.qcow2');
    expect(before[5 << 20]).toBe(0);
    img('commit', '-b', 'cs-base.qcow2', 'cs-top.qcow2');
    expect(raw('cs-base.qcow2').equals(before)).toBe(true);
  });
});

describe('convert, further', () => {
  qemuIt('joins several images, reads snapshots, and only stores what differs from -B', () => {
    const { base, top } = chain('cv');
    img('convert', '-O', 'raw', base, top, 'both.raw');
    expect(readFileSync(at('both.raw')).equals(Buffer.concat([raw(base), raw(top)]))).toBe(true);
    qemu('snapshot', '-c', 'before', base);
    const old = raw(base);
    io(base, 'write -P 77 0 1M');
    for (const l of ['before', 'snapshot.name=before', 'snapshot.id=1']) {
      img('convert', '-O', 'raw', '-l', l, base, 'snap.raw');
      expect(readFileSync(at('snap.raw')).equals(old), l).toBe(true);
    }
    const wanted = raw(top);
    img('convert', '-O', 'qcow2', '-B', base, '-F', 'qcow2', top, 'diff.qcow2');
    expect(raw('diff.qcow2').equals(wanted)).toBe(true);
    const map = JSON.parse(qemu('map', '--output=json', 'diff.qcow2')) as { depth: number; length: number }[];
    const own = map.filter((e) => e.depth === 0).reduce((n, e) => n + e.length, 0);
    // The layers above the base have 1 MiB, 64 KiB of zeroes and 4 KiB; and the base's first MiB was changed.
    expect(own).toBeLessThan(3 << 20);
    sound('diff.qcow2');
  });

  qemuIt('-n writes into what is there, zeroes included; --target-is-zero leaves zeroes out', () => {
    const { top } = chain('nn');
    const wanted = raw(top);
    for (const [format, target] of [
      ['raw', 'n.raw'],
      ['qcow2', 'n.qcow2'],
    ] as const) {
      qemu('create', '-q', '-f', format, target, '10M');
      run('qemu-io', ['-f', format, '-c', 'write -P 99 0 10M', at(target)]);
      img('convert', '-n', '-O', format, top, target);
      expect(raw(target, '-f', format).equals(wanted), format).toBe(true);
    }
    qemu('create', '-q', '-f', 'qcow2', 'z.qcow2', '10M');
    img('convert', '-n', '--target-is-zero', '--target-image-opts', '-O', 'qcow2', top, 'driver=qcow2,file.filename=z.qcow2');
    expect(raw('z.qcow2').equals(wanted)).toBe(true);
    qemu('create', '-q', '-f', 'qcow2', 'small.qcow2', '1M');
    expect(virt('convert', '-n', '-O', 'qcow2', top, 'small.qcow2').status).toBe(1);
  });

  qemuIt('copies bitmaps with --bitmaps', () => {
    qemu('create', '-q', '-f', 'qcow2', 'bm.qcow2', '10M');
    qemu('bitmap', '--add', '-g', '64k', 'bm.qcow2', 'b0');
    qemu('bitmap', '--add', '--disable', 'bm.qcow2', 'b1');
    io('bm.qcow2', 'write -P 1 3M 128k');
    img('convert', '--bitmaps', '-O', 'qcow2', 'bm.qcow2', 'bm2.qcow2');
    const bitmaps = (f: string) => JSON.parse(qemu('info', '--output=json', f))['format-specific'].data.bitmaps;
    expect(bitmaps('bm2.qcow2')).toEqual(bitmaps('bm.qcow2'));
    sound('bm2.qcow2');
  });

  qemuIt('encrypted images in and out', () => {
    const { top } = chain('en');
    const wanted = raw(top);
    writeFileSync(at('pass'), 'correct horse');
    const secret = ['--object', 'secret,id=s,file=pass'];
    img(
      'convert',
      ...secret,
      '-O',
      'qcow2',
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
      top,
      'luks.qcow2',
    );
    const opts = 'driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s';
    qemu('convert', '--object', `secret,id=s,file=${at('pass')}`, '--image-opts', opts, '-O', 'raw', 'q.raw');
    expect(readFileSync(at('q.raw')).equals(wanted)).toBe(true);
    img('convert', ...secret, '--image-opts', opts, '-O', 'raw', 'v.raw');
    expect(readFileSync(at('v.raw')).equals(wanted)).toBe(true);
    const json = 'json:{"driver":"qcow2","encrypt.key-secret":"s","file":{"driver":"file","filename":"luks.qcow2"}}';
    img('convert', '--object', 'secret,id=s,data=Y29ycmVjdCBob3JzZQ==,format=base64', '-O', 'raw', json, 'v.raw');
    expect(readFileSync(at('v.raw')).equals(wanted)).toBe(true);
    expect(virt('convert', '-O', 'raw', 'luks.qcow2', 'no.raw').status).toBe(1);
    expect(virt('convert', '--object', 'secret,id=s,data=wrong', '--image-opts', opts, '-O', 'raw', 'no.raw').status).toBe(1);
    expect(existsSync(at('no.raw'))).toBe(false);
    // A second key, then the first one goes.
    const both = ['--object', 'secret,id=s,file=pass', '--object', 'secret,id=n,data=new'];
    img('amend', ...both, '--image-opts', '-o', 'encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10', opts);
    img('amend', ...both, '--image-opts', '-o', 'encrypt.state=inactive,encrypt.old-secret=s', opts.replace('=s', '=n'));
    qemu('convert', '--object', 'secret,id=n,data=new', '--image-opts', opts.replace('=s', '=n'), '-O', 'raw', 'q.raw');
    expect(readFileSync(at('q.raw')).equals(wanted)).toBe(true);
  });

  qemuIt('dd copies what qemu-img dd copies', () => {
    const { top } = chain('dd');
    for (const args of [
      ['bs=1M', 'count=2'],
      ['bs=100k', 'skip=3'],
      ['bs=1M', 'count=3', 'skip=1'],
      ['bs=512', 'count=3'],
      ['bs=1M', 'skip=100'],
    ]) {
      expect(virt('dd', '-O', 'raw', ...args, `if=${top}`, 'of=dv.raw').status, args.join(' ')).toBe(
        statusOf('qemu-img', ['dd', '-O', 'raw', ...args, `if=${top}`, 'of=dq.raw']),
      );
      expect(readFileSync(at('dv.raw')).equals(readFileSync(at('dq.raw'))), args.join(' ')).toBe(true);
    }
  });
});

describe('snapshot, bitmap, resize, amend', () => {
  qemuIt('snapshots are made, applied and deleted as qemu-img does', () => {
    qemu('create', '-q', '-f', 'qcow2', 'sn.qcow2', '10M');
    io('sn.qcow2', 'write -P 1 0 1M');
    const first = raw('sn.qcow2');
    img('snapshot', '-c', 'one', 'sn.qcow2');
    io('sn.qcow2', 'write -P 2 0 2M');
    expect(qemu('snapshot', '-l', 'sn.qcow2')).toContain('one');
    expect(img('snapshot', '-l', 'sn.qcow2')).toBe(qemu('snapshot', '-l', 'sn.qcow2'));
    expect(JSON.parse(img('snapshot', '-l', '--output=json', 'sn.qcow2'))).toMatchObject([{ name: 'one', id: '1' }]);
    sound('sn.qcow2');
    img('snapshot', '-a', 'one', 'sn.qcow2');
    expect(raw('sn.qcow2').equals(first)).toBe(true);
    img('snapshot', '-d', 'one', 'sn.qcow2');
    expect(qemu('snapshot', '-l', 'sn.qcow2')).toBe('');
    sound('sn.qcow2');
    expect(virt('snapshot', '-a', 'none', 'sn.qcow2').status).toBe(1);
    expect(virt('snapshot', '-l', '-c', 'x', 'sn.qcow2').status).toBe(1);
  });

  qemuIt('bitmaps are added, merged, disabled and removed', () => {
    qemu('create', '-q', '-f', 'qcow2', 'bo.qcow2', '10M');
    img('bitmap', '--add', '-g', '128k', 'bo.qcow2', 'a');
    img('bitmap', '--add', '--disable', 'bo.qcow2', 'b');
    io('bo.qcow2', 'write 1M 1M');
    img('bitmap', '--merge', 'a', 'bo.qcow2', 'b');
    qemu('create', '-q', '-f', 'qcow2', 'bo2.qcow2', '10M');
    img('bitmap', '--add', '--merge', 'b', '-b', 'bo.qcow2', '-F', 'qcow2', 'bo2.qcow2', 'c');
    const list = (f: string) =>
      JSON.parse(qemu('info', '--output=json', f))['format-specific'].data.bitmaps.map((b: { name: string; flags: string[] }) => [
        b.name,
        b.flags,
      ]);
    expect(list('bo.qcow2')).toEqual([
      ['a', ['auto']],
      ['b', []],
    ]);
    img('bitmap', '--remove', 'bo.qcow2', 'a');
    expect(list('bo.qcow2')).toEqual([['b', []]]);
    expect(list('bo2.qcow2')).toEqual([['c', ['auto']]]);
    sound('bo.qcow2');
    sound('bo2.qcow2');
    expect(virt('bitmap', '--add', 'bo.qcow2', 'b').status).toBe(1);
    expect(virt('bitmap', 'bo.qcow2', 'b').status).toBe(1);
  });

  qemuIt('resize: absolute and relative, shrinking only when told, with preallocation', () => {
    for (const format of ['raw', 'qcow2']) {
      qemu('create', '-q', '-f', format, 'rs', '10M');
      const size = () => JSON.parse(qemu('info', '-f', format, '--output=json', 'rs'))['virtual-size'];
      expect(img('resize', '-f', format, 'rs', '+5M')).toBe('Image resized.\n');
      expect(size()).toBe(15 << 20);
      expect(virt('resize', '-f', format, 'rs', '-5M')).toMatchObject({ status: 1, stderr: expect.stringContaining('--shrink') });
      expect(size()).toBe(15 << 20);
      img('resize', '--shrink', '-f', format, 'rs', '-5M');
      expect(size()).toBe(10 << 20);
      img('resize', '-f', format, '--preallocation=full', 'rs', '12M');
      expect(size()).toBe(12 << 20);
      expect(statSync(at('rs')).blocks * 512).toBeGreaterThan(2 << 20);
    }
    qemu('create', '-q', '-f', 'vmdk', 'rs.vmdk', '10M');
    expect(virt('resize', 'rs.vmdk', '+1M').status).toBe(statusOf('qemu-img', ['resize', 'rs.vmdk', '+1M']));
    expect(virt('resize', 'rs', 'large').status).toBe(1);
  });

  qemuIt('amend changes version, refcount width and size; -o help lists', () => {
    qemu('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'am.qcow2', '10M');
    img('amend', '-f', 'qcow2', '-o', 'compat=1.1,lazy_refcounts=on,size=11M', 'am.qcow2');
    img('amend', '-o', 'refcount_bits=8', 'am.qcow2');
    const d = JSON.parse(qemu('info', '--output=json', 'am.qcow2'));
    expect(d['virtual-size']).toBe(11 << 20);
    expect(d['format-specific'].data).toMatchObject({ compat: '1.1', 'lazy-refcounts': true, 'refcount-bits': 8 });
    sound('am.qcow2');
    for (const args of [
      ['amend', '-f', 'qcow2'],
      ['create', '-f', 'qcow2'],
      ['convert', '-O', 'vmdk'],
    ]) {
      const ours = img(...args, '-o', 'help').match(/^ {2}[a-z_0-9.-]+(?==)/gm);
      expect(ours!.length).toBeGreaterThan(5);
      const theirs = new Set(qemu(...args, '-o', 'help').match(/^ {2}[a-z_0-9.-]+(?==)/gm));
      for (const o of ours!) expect(theirs.has(o), o).toBe(true);
    }
  });

  qemuIt('check finds and repairs leaks, with the exit statuses of qemu-img', () => {
    qemu('create', '-q', '-f', 'qcow2', 'lk.qcow2', '10M');
    io('lk.qcow2', 'write 0 1M');
    // An L2 entry is cleared behind the refcounts' back: its cluster leaks.
    const b = readFileSync(at('lk.qcow2'));
    const l1 = Number(b.readBigUInt64BE(40));
    const l2 = Number(b.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    b.writeBigUInt64BE(0n, l2 + 8);
    writeFileSync(at('lk.qcow2'), b);
    const bad = readFileSync(at('lk.qcow2'));
    bad.writeBigUInt64BE(0x8000000000000000n | 0x7fff0000n, l2 + 16);
    writeFileSync(at('bad.qcow2'), bad);
    for (const f of ['lk.qcow2', 'bad.qcow2']) {
      const q = spawnSync('qemu-img', ['check', '--output=json', f], { cwd: dir });
      const v = virt('check', '--output=json', f);
      expect(v.status, f).toBe(q.status);
      const want = JSON.parse(q.stdout.toString());
      expect(JSON.parse(v.stdout).leaks).toBe(want.leaks);
    }
    const r = virt('check', '-r', 'leaks', 'lk.qcow2');
    expect(r.status).toBe(0);
    expect(r.stdout).toContain('1 leaked clusters');
    sound('lk.qcow2');
    writeFileSync(at('plain.raw'), Buffer.alloc(65536));
    expect(virt('check', 'plain.raw').status).toBe(63);
    expect(virt('check', 'missing.qcow2').status).toBe(statusOf('qemu-img', ['check', 'missing.qcow2']));
  });

  qemuIt('compare: messages and statuses of qemu-img', () => {
    const a = Buffer.alloc(3 << 20, 5);
    writeFileSync(at('a.raw'), a);
    const b = Buffer.from(a);
    b[(2 << 20) + 700] = 6;
    writeFileSync(at('b.raw'), b);
    writeFileSync(at('longer-zero.raw'), Buffer.concat([a, Buffer.alloc(1 << 20)]));
    writeFileSync(at('longer.raw'), Buffer.concat([a, Buffer.alloc(1 << 20, 1)]));
    qemu('convert', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'a.qcow2');
    const pairs = [
      ['a.raw', 'a.qcow2'],
      ['a.raw', 'b.raw'],
      ['a.raw', 'longer-zero.raw'],
      ['longer-zero.raw', 'a.raw'],
      ['a.raw', 'longer.raw'],
      ['a.raw', 'none.raw'],
    ];
    for (const pair of pairs)
      for (const more of [[], ['-s'], ['-q'], ['-p']]) {
        const q = spawnSync('qemu-img', ['compare', ...more, ...pair], { cwd: dir });
        const v = virt('compare', ...more, ...pair);
        expect(v.status, [...more, ...pair].join(' ')).toBe(q.status);
        const told = (s: string) => s.replace(/ *\(\d+\.\d+\/100%\)\r/g, '').trim();
        expect(told(v.stdout)).toBe(told(q.stdout.toString()));
      }
    expect(JSON.parse(virt('compare', '--output=json', 'a.raw', 'b.raw').stdout)).toMatchObject({
      kind: 'content',
      offset: 2097664,
    });
  });
});

describe('what goes wrong', () => {
  qemuIt('mistakes end with status 1 and a message that helps', () => {
    writeFileSync(at('x.raw'), Buffer.alloc(4096));
    const cases: readonly (readonly [string[], RegExp])[] = [
      [[], /not enough arguments/],
      [['frobnicate'], /command not found: frobnicate/],
      [['info'], /one image file name/],
      [['info', 'nope.qcow2'], /nope\.qcow2: no such file/],
      [['info', '-f', 'foo', 'x.raw'], /"foo" is not known/],
      [['info', '-f', 'qcow2', 'x.raw'], /not a qcow2 image/],
      [['info', '--output=xml', 'x.raw'], /human or json/],
      [['create', '-f', 'qcow2', 'y.qcow2'], /needs a size/],
      [['create', '-f', 'qcow2', '-o', 'zzz=1', 'y.qcow2', '1M'], /zzz/],
      [['create', '-f', 'qcow2', '-b', 'x.raw', 'y.qcow2'], /without backing format \(detected: raw\)/],
      [['create', '-f', 'qcow2', 'y.qcow2', 'big'], /"big" is not a size/],
      [['convert', '-O', 'qcow2', 'x.raw'], /at least one source/],
      [['convert', '-O', 'raw', '-c', 'x.raw', 'y.raw'], /compression is not supported/],
      [['convert', '-O', 'raw', '-l', 's', 'x.raw', 'y.raw'], /no internal snapshots/],
      [['convert', '--image-opts', 'driver=qcow2,frob=1,file.filename=x.raw', 'y.raw'], /"frob" is not supported/],
    ];
    for (const [args, message] of cases) {
      const r = virt(...args);
      expect(r.status, args.join(' ')).toBe(1);
      expect(r.stderr).toMatch(message);
      expect(r.stderr).not.toContain('internal error');
    }
    expect(readdirSync(dir).filter((f) => f.startsWith('y.') || f.endsWith('.partial'))).toEqual([]);
    for (const name of [
      'amend',
      'bench',
      'bitmap',
      'check',
      'commit',
      'compare',
      'convert',
      'create',
      'dd',
      'info',
      'map',
      'measure',
      'rebase',
      'resize',
      'snapshot',
    ])
      expect(img(name, '--help')).toContain(`virt-img ${name}`);
  });

  qemuIt('an image in use is not opened for writing, nor replaced; -U reads it', async () => {
    qemu('create', '-q', '-f', 'qcow2', 'used.qcow2', '1M');
    writeFileSync(at('src.raw'), Buffer.alloc(4096, 1));
    const holder = spawn('qemu-io', ['-f', 'qcow2', at('used.qcow2')], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      holder.stdin.write('read 0 512\n');
      await new Promise((done) => holder.stdout.once('data', done));
      for (const args of [
        ['resize', 'used.qcow2', '+1M'],
        ['snapshot', '-c', 's', 'used.qcow2'],
        ['convert', '-O', 'qcow2', 'src.raw', 'used.qcow2'],
        ['info', 'used.qcow2'],
      ]) {
        const r = virt(...args);
        expect(r.status, args.join(' ')).toBe(1);
        expect(r.stderr).toContain('in use by qemu-io');
      }
      expect(virt('info', '-U', 'used.qcow2').status).toBe(0);
    } finally {
      holder.stdin.end('quit\n');
      await new Promise((done) => holder.once('exit', done));
    }
  });

  qemuIt('a conversion that fails leaves the target as it was', () => {
    qemu('create', '-q', '-f', 'qcow2', 'tc.qcow2', '10M');
    io('tc.qcow2', 'write -P 1 0 5M');
    const b = readFileSync(at('tc.qcow2'));
    writeFileSync(at('tc.qcow2'), b.subarray(0, b.length - (3 << 20)));
    writeFileSync(at('keep.qcow2'), 'precious');
    expect(virt('convert', '-O', 'qcow2', 'tc.qcow2', 'keep.qcow2').status).toBe(1);
    expect(readFileSync(at('keep.qcow2'), 'utf8')).toBe('precious');
    expect(readdirSync(dir).filter((f) => f.endsWith('.partial'))).toEqual([]);
  });

  itIf(process.platform === 'linux' && hasTool('bash'), 'no bash')(
    'a file-size limit and an interrupt leave no target',
    async () => {
      const data = Buffer.alloc(8 << 20);
      for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((Math.imul(i, 2654435761) | 1) >>> 0, i);
      writeFileSync(at('data.raw'), data);
      tool('virt-img', ['--version']);
      const program = join(packageRoot(), 'dist', 'bin', 'virt-img.js');
      const limited = spawnSync(
        'bash',
        ['-c', `trap '' XFSZ; ulimit -f 2048; exec "${process.execPath}" "${program}" convert -O qcow2 data.raw limited.qcow2`],
        { cwd: dir },
      );
      expect(limited.status).toBe(1);
      expect(limited.stderr.toString()).toContain('file too large');
      expect(existsSync(at('limited.qcow2'))).toBe(false);

      writeFileSync(at('slow.qcow2'), 'before');
      const slow = spawn(process.execPath, [program, 'convert', '-p', '-r', '4M', '-O', 'qcow2', 'data.raw', 'slow.qcow2'], {
        cwd: dir,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      await new Promise((done) => slow.stdout.once('data', done));
      await new Promise((done) => setTimeout(done, 200));
      slow.kill('SIGINT');
      const status = await new Promise((done) => slow.once('exit', done));
      expect(status).toBe(130);
      expect(readFileSync(at('slow.qcow2'), 'utf8')).toBe('before');
      expect(readdirSync(dir).filter((f) => f.endsWith('.partial'))).toEqual([]);
    },
  );

  itIf(process.getuid?.() === 0 && hasTool('mount'), 'needs root')('a full disk is told, and leaves nothing', () => {
    const mount = at('full');
    mkdirSync(mount);
    run('mount', ['-t', 'tmpfs', '-o', 'size=2M', 'tmpfs', mount]);
    try {
      writeFileSync(at('five.raw'), Buffer.alloc(5 << 20, 9));
      const r = virt('convert', '-O', 'qcow2', 'five.raw', join(mount, 'x.qcow2'));
      expect(r.status).toBe(1);
      expect(r.stderr).toContain('no space left');
      expect(readdirSync(mount)).toEqual([]);
    } finally {
      run('umount', [mount]);
    }
  });

  itIf(hasTool('qemu-img'), 'qemu-img not installed')('--salvage reads what can be read', () => {
    qemu('create', '-q', '-f', 'qcow2', 'sv.qcow2', '4M');
    io('sv.qcow2', 'write -P 1 0 4M');
    qemu('convert', '-c', '-O', 'qcow2', 'sv.qcow2', 'svc.qcow2');
    const b = readFileSync(at('svc.qcow2'));
    const l1 = Number(b.readBigUInt64BE(40));
    const l2 = Number(b.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    const host = Number(b.readBigUInt64BE(l2 + 16) & 0x003fffffffffffffn);
    b.fill(0xff, host, host + 30);
    writeFileSync(at('svc.qcow2'), b);
    expect(virt('convert', '-O', 'raw', 'svc.qcow2', 'sv.raw').status).toBe(1);
    const r = virt('convert', '--salvage', '-O', 'raw', 'svc.qcow2', 'sv.raw');
    expect(r.status).toBe(0);
    expect(r.stderr).toContain('cannot be read');
    const got = readFileSync(at('sv.raw'));
    expect(got[0]).toBe(1);
    expect(got[(2 << 16) + 5]).toBe(0);
    expect(got[(3 << 20) + 5]).toBe(1);
  });
});
