import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedFile } from '../helpers/shared-data.js';
import { tool } from '../helpers/tool.js';
import { testDisks } from './disk.js';
import { BIN, runAsync, serve, serveQemu, waitFor } from './serve.js';

const { dir, path, rawDisk } = testDisks();
const MiB = 1 << 20;

function image(format: string, raw = rawDisk().file): string {
  const file = path(`disk.${format}`);
  run('qemu-img', ['convert', '-f', 'raw', '-O', format, raw, file]);
  return file;
}
const bytesOf = (file: string): Buffer => {
  const raw = path('as.raw');
  run('qemu-img', ['convert', '-O', 'raw', file, raw]);
  const b = readFileSync(raw);
  rmSync(raw);
  return b;
};
const mapOf = (uri: string, context = 'base:allocation') =>
  JSON.parse(run('nbdinfo', [`--map=${context}`, '--json', uri])) as { offset: number; length: number; type: number }[];

describe('reading', () => {
  itNeeds('qemu-img').each(['raw', 'qcow2', 'vmdk', 'vdi', 'vhdx'])(
    'qemu-img finds a %s image the same over NBD',
    async (format) => {
      const file = image(format);
      const s = await serve(['-r', '-t', '-f', format, '-k', path('s'), file]);
      expect(s.ready.format).toBe(format);
      run('qemu-img', ['compare', '-F', 'raw', file, s.uri]);
      const copy = path('copy.qcow2');
      run('qemu-img', ['convert', '-O', 'qcow2', s.uri, copy]);
      run('qemu-img', ['compare', file, copy]);
    },
  );

  itNeeds('nbdinfo', 'qemu-nbd')('nbdinfo sees what the export can do, and the allocation that qemu-nbd tells', async () => {
    const file = image('qcow2');
    const s = await serve(['-r', '-t', '-x', 'disk one', '-D', 'about it', '-k', path('s'), file]);
    const info = JSON.parse(run('nbdinfo', ['--json', s.uri])) as {
      protocol: string;
      structured: boolean;
      exports: Record<string, unknown>[];
    };
    expect(info).toMatchObject({ protocol: 'newstyle-fixed', structured: true });
    expect(info.exports[0]).toMatchObject({
      'export-name': 'disk one',
      description: 'about it',
      'export-size': 24 * MiB,
      is_read_only: true,
      can_df: true,
      can_flush: true,
      can_fua: true,
      can_cache: true,
      can_multi_conn: true,
      can_trim: false,
      can_zero: false,
      contexts: ['base:allocation', 'qemu:allocation-depth'],
    });
    const theirs = path('theirs');
    await serveQemu(theirs, ['-r', '-A', '-e', '0', '-x', 'disk one', file]);
    const uri = `nbd+unix:///disk%20one?socket=${theirs}`;
    const zero = (m: ReturnType<typeof mapOf>) => m.map((r) => [r.offset, r.length, r.type & 2]);
    // Our server looks through to the file's holes, so it may know more zeroes; where it says data, so does qemu-nbd.
    const known = zero(mapOf(uri));
    for (const [offset, length, isZero] of zero(mapOf(s.uri)))
      if (isZero === 0)
        expect(
          known.some(([o, n, z]) => z === 0 && o! <= offset! && offset! + length! <= o! + n!),
          `data at ${offset}`,
        ).toBe(true);
    expect(mapOf(s.uri, 'qemu:allocation-depth')).toEqual(mapOf(uri, 'qemu:allocation-depth'));
    const list = tool('guestwright', ['nbd', '--list', '--json', uri]);
    expect(JSON.parse(list.stdout)).toMatchObject({ exports: [{ name: 'disk one', size: 24 * MiB }] });
  });

  itNeeds(
    'nbdinfo',
    'qemu-img',
    'qemu-io',
  )('tells depths of a backing chain and dirty bitmaps as qemu-nbd does', async () => {
    const base = image('qcow2');
    const top = path('top.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
    run('qemu-img', ['bitmap', '--add', top, 'since']);
    run('qemu-io', ['-c', 'write -P 1 5M 200k', '-c', 'write -P 2 17M 64k', top]);
    const s = await serve(['-r', '-t', '-B', 'since', '-k', path('s'), top]);
    const theirs = path('theirs');
    await serveQemu(theirs, ['-r', '-A', '-B', 'since', '-e', '0', top]);
    for (const context of ['qemu:allocation-depth', 'qemu:dirty-bitmap:since'])
      expect(mapOf(s.uri, context), context).toEqual(mapOf(`nbd+unix:///?socket=${theirs}`, context));
  });

  itNeeds('nbdcopy', 'qemu-img')('nbdcopy copies out over several connections, with every reply size', async () => {
    const { file, bytes } = rawDisk();
    const s = await serve(['-r', '-t', '-k', path('s'), image('qcow2', file)]);
    for (const args of [
      [],
      ['--request-size=33554432'],
      ['--connections=4', '--requests=64', '--request-size=4096'],
      ['--synchronous'],
    ]) {
      const copy = path('copy');
      run('nbdcopy', [...args, s.uri, copy]);
      expect(Buffer.compare(readFileSync(copy), bytes), args.join(' ')).toBe(0);
    }
  });

  itNeeds('nbdcopy')('many clients at once, each gets its bytes', async () => {
    const { file, bytes } = rawDisk();
    const s = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    const copies = Array.from({ length: 8 }, () => path('copy'));
    const done = await Promise.all(copies.map((c) => runAsync('nbdcopy', [s.uri, c])));
    expect(done.map((d) => d.status)).toEqual(copies.map(() => 0));
    for (const c of copies) expect(Buffer.compare(readFileSync(c), bytes)).toBe(0);
  });

  itNeeds('nbdinfo', 'nbdcopy')('is started by libnbd tools with a socket of theirs', () => {
    const { file, bytes } = rawDisk();
    const copy = path('copy');
    run('nbdcopy', ['--', '[', join(BIN, 'guestwright.js'), 'nbd', '-r', '-f', 'raw', file, ']', copy]);
    expect(Buffer.compare(readFileSync(copy), bytes)).toBe(0);
  });
});

describe('parts of images', () => {
  itNeeds(
    'sgdisk',
    'mke2fs',
    'qemu-img',
  )('one partition by number and by device, and everything from an offset', async () => {
    const file = path('parts.raw');
    writeFileSync(file, '');
    truncateSync(file, 32 * MiB);
    run('sgdisk', ['-n', '1:2048:+4M', '-n', '5:12288:+16M', file]);
    const fs = path('fs');
    run('mke2fs', ['-q', '-t', 'ext4', '-L', 'five', fs, '16M']);
    run('dd', [`if=${fs}`, `of=${file}`, 'bs=512', 'seek=12288', 'conv=notrunc', 'status=none']);
    for (const args of [
      ['-P', '5'],
      ['--device', '/dev/sda5'],
      ['--device', 'LABEL=five'],
    ]) {
      const s = await serve(['-r', '-t', '-f', 'raw', ...args, '-k', path('s'), file]);
      expect(s.ready.size).toBe(16 * MiB);
      run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', fs, s.uri]);
      s.child.kill('SIGTERM');
      await s.ended;
    }
    const s = await serve(['-r', '-t', '-f', 'raw', '-o', String(12288 * 512), '-k', path('s'), file]);
    expect(s.ready.size).toBe(32 * MiB - 12288 * 512);
    // A partition of a writable image is written in its place only.
    const before = readFileSync(file);
    const w = await serve(['-f', 'raw', '-P', '1', '-k', path('s'), file]);
    run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 0 4M', w.uri]);
    expect(await w.ended).toBe(0);
    before.fill(0x5a, 2048 * 512, 2048 * 512 + 4 * MiB);
    expect(Buffer.compare(readFileSync(file), before)).toBe(0);
    await expect(serve(['-r', '-P', '9', file])).rejects.toThrow(/no partition 9 \(partitions: 1, 5\)/);
  });

  itIf(hasSharedData(), noSharedData)('a logical volume, for reading and for writing', async () => {
    const disk = sharedFile('guest/phony-fedora.img.zst');
    const device = '/dev/VG/Root';
    const s = await serve(['-r', '-t', '--device', device, '-k', path('s'), disk]);
    // What is inside is the same by both ways.
    const here = tool('virt-ls', ['-a', disk, '-m', device, '/']);
    const there = tool('virt-ls', ['-a', s.uri, '-m', '/dev/sda', '/']);
    expect(here.stdout).toMatch(/^etc$/m);
    expect(there).toMatchObject({ status: 0, stderr: '', stdout: here.stdout });
    // Of one piece it can be written to as well: bytes change there and nowhere else.
    const copy = path('lvm.raw');
    run('cp', ['--sparse=always', '--reflink=auto', disk, copy]);
    const w = await serve(['-f', 'raw', '--device', device, '-k', path('s'), copy]);
    run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x61 5M 3M', w.uri]);
    expect(await w.ended).toBe(0);
    const differences = run('cmp', ['-l', disk, copy], { ok: [1] })
      .trimEnd()
      .split('\n')
      .map((l) => Number(l.trim().split(/ +/)[0]) - 1);
    expect(differences.at(-1)! - differences[0]!).toBeLessThan(3 * MiB);
    const c = await serve(['-r', '--device', device, '-f', 'raw', '-k', path('s'), copy]);
    run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0x61 5M 3M', c.uri]);
  });

  itNeeds('qemu-img', 'qemu-io')('an internal snapshot, and writes that are thrown away', async () => {
    const file = image('qcow2');
    const old = bytesOf(file);
    run('qemu-img', ['snapshot', '-c', 'before', file]);
    run('qemu-io', ['-c', 'write -P 0x77 0 2M', file]);
    const raw = path('old.raw');
    writeFileSync(raw, old);
    const s = await serve(['-t', '-l', 'snapshot.name=before', '-k', path('s'), file]);
    expect(s.ready.readOnly).toBe(true);
    run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', raw, s.uri]);
    const now = readFileSync(file);
    const o = await serve(['-s', '-t', '-k', path('s'), file]);
    run('qemu-io', ['-f', 'raw', '-c', 'write -P 1 1M 3M', '-c', 'read -P 1 1M 3M', '-c', 'read -P 0x77 0 1M', o.uri]);
    run('qemu-io', ['-f', 'raw', '-c', 'read -P 1 1M 3M', '-c', 'write -z 1M 1M', '-c', 'read -P 0 1M 1M', o.uri]);
    o.child.kill('SIGINT');
    expect(await o.ended).toBe(0);
    expect(Buffer.compare(readFileSync(file), now)).toBe(0);
  });
});

describe('writing', () => {
  itNeeds('qemu-img', 'qemu-io').each(['raw', 'qcow2', 'vmdk', 'vdi', 'vhdx'])(
    'qemu-io writes, zeroes and trims a %s image; the image is right afterwards',
    async (format) => {
      const { file: raw, bytes } = rawDisk();
      const file = image(format, raw);
      const s = await serve(['-f', format, '-k', path('s'), file]);
      // Not aligned to anything, across clusters, with FUA, zeroes with and without holes, trim.
      const commands = [
        'write -P 0x11 70001 500003',
        'write -f -P 0x22 2M 64k',
        'write -z 17M 300k',
        'write -z -u 17500k 100k',
        'write -P 0x33 25165823 1',
        'flush',
        'read -P 0x11 70001 500003',
        'read -P 0 17M 300k',
      ];
      run('qemu-io', ['-f', 'raw', ...commands.flatMap((c) => ['-c', c]), s.uri]);
      expect(await s.ended).toBe(0);
      expect(existsSync(s.socket)).toBe(false);
      bytes.fill(0x11, 70001, 70001 + 500003);
      bytes.fill(0x22, 2 * MiB, 2 * MiB + 65536);
      bytes.fill(0, 17 * MiB, 17 * MiB + 300 * 1024);
      bytes.fill(0, 17500 * 1024, 17600 * 1024);
      bytes[25165823] = 0x33;
      expect(Buffer.compare(bytesOf(file).subarray(0, bytes.length), bytes)).toBe(0);
      if (format !== 'raw') run('qemu-img', ['check', '-q', file]);
    },
  );

  itNeeds('nbdcopy', 'qemu-img')('nbdcopy and qemu-img convert copy in; holes stay holes', async () => {
    const { file, bytes } = rawDisk();
    const target = path('target.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', target, '24M']);
    const s = await serve(['-t', '-e', '0', '-k', path('s'), target]);
    run('nbdcopy', ['--flush', file, s.uri]);
    run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, s.uri]);
    s.child.kill('SIGTERM');
    expect(await s.ended).toBe(0);
    run('qemu-img', ['check', '-q', target]);
    expect(Buffer.compare(bytesOf(target), bytes)).toBe(0);
    const used = JSON.parse(run('qemu-img', ['info', '--output=json', target])) as { 'actual-size': number };
    expect(used['actual-size']).toBeLessThan(6 * MiB);

    run('qemu-io', ['-c', 'write -P 1 0 24M', target]);
    const again = await serve(['-k', path('s'), target]);
    run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, again.uri]);
    expect(await again.ended).toBe(0);
    expect(Buffer.compare(bytesOf(target), bytes)).toBe(0);
  });

  itNeeds('qemu-io')('trim gives space back, and not where it is to be ignored', async () => {
    const blocks = (file: string) => Number(run('stat', ['-c', '%b', file]));
    for (const [mode, freed] of [
      ['unmap', true],
      ['ignore', false],
    ] as const) {
      const file = path('trim.raw');
      writeFileSync(file, Buffer.alloc(8 * MiB, 1));
      const before = blocks(file);
      const s = await serve(['-f', 'raw', `--discard=${mode}`, '-k', path('s'), file]);
      run('qemu-io', ['-f', 'raw', '-d', 'unmap', '-c', 'discard 1M 6M', '-c', 'flush', s.uri]);
      await s.ended;
      expect(blocks(file) < before - 8000, mode).toBe(freed);
    }
  });

  itNeeds('qemu-io', 'qemu-img')('a guessed raw image cannot be made to look like another format', async () => {
    const file = path('guess.raw');
    writeFileSync(file, Buffer.alloc(4 * MiB, 1));
    const evil = path('evil.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', '/etc/shadow', '-F', 'raw', evil, '1M']);
    const head = path('head');
    writeFileSync(head, readFileSync(evil).subarray(0, 65536));

    const s = await serve(['-t', '-k', path('s'), file]);
    await waitFor(() => s.stderr().includes('\n'));
    expect(s.stderr()).toMatch(/guessed to be raw; writes that would make it look like another one are refused/);
    expect(() => run('qemu-io', ['-f', 'raw', '-c', `write -s ${head} 0 64k`, s.uri])).toThrow();
    run('qemu-io', ['-f', 'raw', '-c', 'write -P 3 0 64k', '-c', `write -s ${head} 64k 64k`, s.uri]);
    expect(
      readFileSync(file)
        .subarray(0, 65536)
        .every((b) => b === 3),
    ).toBe(true);
  });

  itIf(process.getuid?.() === 0, 'mounting a small tmpfs needs root')('a full host disk is ENOSPC for the client', async () => {
    const mount = path('small');
    mkdirSync(mount);
    run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', mount]);
    try {
      const file = join(mount, 'disk.qcow2');
      run('qemu-img', ['create', '-q', '-f', 'qcow2', file, '64M']);
      const s = await serve(['-t', '-k', path('s'), file]);
      const r = await runAsync('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 8M', s.uri]);
      expect(`${r.stdout}${r.stderr}`).toMatch(/No space left on device/);
      s.child.kill('SIGKILL');
      await s.ended;
    } finally {
      run('umount', [mount]);
    }
  });
});

describe('the server as a program', () => {
  itNeeds('nbdinfo')('ends when the last client has left, unless it is to stay; SIGINT and SIGTERM end it cleanly', async () => {
    const { file } = rawDisk();
    const once = await serve(['-r', '-f', 'raw', '-k', path('s'), file]);
    // A client that only asks has had no export.
    run('nbdinfo', ['--list', once.uri]);
    expect(once.child.exitCode).toBe(null);
    run('nbdinfo', ['--map', once.uri]);
    expect(await once.ended).toBe(0);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const pid = path('pid');
      const stay = await serve(['-r', '-t', '-f', 'raw', '--pid-file', pid, '-k', path('s'), file]);
      expect(readFileSync(pid, 'utf8')).toBe(`${stay.child.pid}\n`);
      run('nbdinfo', [stay.uri]);
      run('nbdinfo', [stay.uri]);
      stay.child.kill(signal);
      expect(await stay.ended).toBe(0);
      expect([existsSync(stay.socket), existsSync(pid)]).toEqual([false, false]);
      expect(stay.stderr()).toBe('');
    }
  });

  itNeeds('nbdinfo')(
    'listens on this host only unless told, on a free port when asked; --fork returns when it is ready',
    async () => {
      const { file } = rawDisk();
      const s = await serve(['-r', '-t', '-f', 'raw', '-p', '0', file]);
      expect(s.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:[0-9]+\/$/);
      run('nbdinfo', [s.uri]);
      await expect(serve(['-r', '-f', 'raw', '-p', String(s.ready.port), file])).rejects.toThrow(/the address is in use/);
      const socket = path('s');
      const pid = path('pid');
      const r = await runAsync(process.execPath, [
        join(BIN, 'guestwright.js'),
        'nbd',
        '--fork',
        '-r',
        '-f',
        'raw',
        '--pid-file',
        pid,
        '-k',
        socket,
        file,
      ]);
      expect(r.status).toBe(0);
      run('nbdinfo', ['--size', `nbd+unix:///?socket=${socket}`]);
      await waitFor(() => !existsSync(pid));
      const bad = await runAsync(process.execPath, [join(BIN, 'guestwright.js'), 'nbd', '--fork', '-r', join(dir, 'missing')]);
      expect(bad).toMatchObject({ status: 1, stderr: `guestwright nbd: ${join(dir, 'missing')}: no such file or directory\n` });
    },
  );

  itNeeds('qemu-img')('a stale socket is replaced, a live one and a file that is none are not', async () => {
    const { file } = rawDisk();
    const first = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    await expect(serve(['-r', '-f', 'raw', '-k', first.socket, file])).rejects.toThrow(/the address is in use/);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(first.socket)).toBe(true);
    const second = await serve(['-r', '-t', '-f', 'raw', '-k', first.socket, file]);
    run('qemu-img', ['info', second.uri]);
    const plain = path('plain');
    writeFileSync(plain, 'mine');
    await expect(serve(['-r', '-f', 'raw', '-k', plain, file])).rejects.toThrow(/the address is in use/);
    expect(readFileSync(plain, 'utf8')).toBe('mine');
  });

  itNeeds('qemu-io', 'nbdinfo')('a writable export has one client at a time: the second waits', async () => {
    const { file } = rawDisk();
    const s = await serve(['-t', '-f', 'raw', '-k', path('s'), file]);
    const first = runAsync('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 1M', '-c', 'sleep 700', '-c', 'write -P 2 1M 1M', s.uri]);
    await waitFor(() => readFileSync(file)[0] === 1);
    const r = await runAsync('nbdinfo', ['--map', s.uri]);
    expect(r.status).toBe(0);
    // The second write of the first client was there before the second client was served.
    expect(readFileSync(file)[MiB]).toBe(2);
    expect((await first).status).toBe(0);
    await expect(serve(['-f', 'raw', '-k', path('s'), file])).rejects.toThrow(/lock/);
  });

  itNeeds('nbdinfo')('a client that never says anything is sent away', async () => {
    const { file } = rawDisk();
    const s = await serve(['-t', '-f', 'raw', '--handshake-limit', '1', '-k', path('s'), file]);
    const { connect } = await import('node:net');
    const silent = connect(s.socket);
    const gone = new Promise((done) => silent.once('close', done));
    silent.resume();
    const waits = runAsync('nbdinfo', [s.uri]);
    await gone;
    expect((await waits).status).toBe(0);
  });
});
