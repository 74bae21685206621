import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { serveFile, serveProxy } from '../helpers/http.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const dir = temporaryFolder();
const shared = itIf(hasSharedData(), noSharedData);
const deb12 = () => sharedFile('guest/deb12.img.zst');

/** A small filesystem made by mke2fs from a folder: what the tools print of it is known. */
function smallDisk(): string {
  const image = join(dir, 'small.img');
  if (existsSync(image)) return image;
  const root = join(dir, 'small');
  mkdirSync(join(root, 'etc'), { recursive: true });
  mkdirSync(join(root, 'sub/deeper'), { recursive: true });
  writeFileSync(join(root, 'etc/hello'), 'hello\n');
  writeFileSync(join(root, 'sub/big'), Buffer.alloc(3 << 20, 'abc'));
  writeFileSync(join(root, 'sub/deeper/ünïcode name'), 'x');
  run('ln', ['-s', '../etc/hello', join(root, 'sub/link')]);
  run('ln', [join(root, 'etc/hello'), join(root, 'sub/hard')]);
  run('truncate', ['-s', '5M', join(root, 'sub/sparse')]);
  run('dd', ['if=/dev/urandom', `of=${join(root, 'sub/sparse')}`, 'bs=64k', 'count=1', 'seek=40', 'conv=notrunc', 'status=none']);
  run('chmod', ['4755', join(root, 'etc/hello')]);
  run('touch', ['-h', '-d', '2001-02-03 04:05:06.123456789 UTC', join(root, 'etc/hello'), join(root, 'sub/link')]);
  run('mke2fs', ['-q', '-t', 'ext4', '-L', 'small', '-U', '11111111-2222-4333-8444-555555555555', '-d', root, image, '32M']);
  return image;
}

describe('virt-cat', () => {
  itNeeds('mke2fs')('prints files byte for byte, following links', () => {
    const r = tool('virt-cat', ['-a', smallDisk(), '-m', '/dev/sda', '/etc/hello', '/sub/link', '/sub/big']);
    expect(r.stderr).toBe('');
    expect(r.status).toBe(0);
    expect(Buffer.compare(r.bytes, Buffer.concat([Buffer.from('hello\nhello\n'), Buffer.alloc(3 << 20, 'abc')]))).toBe(0);
  });
  itNeeds('mke2fs')('says what is wrong, and exits with 1', () => {
    for (const [args, message] of [
      [['-a', smallDisk(), '-m', '/dev/sda', '/etc/nothing'], 'virt-cat: /etc/nothing: no such file or directory\n'],
      [['-a', smallDisk(), '-m', '/dev/sda', '/etc'], 'virt-cat: /etc: is a directory\n'],
      [['-a', smallDisk(), '-m', '/dev/sdb1', '/x'], 'virt-cat: /dev/sdb1: no such device (filesystems: /dev/sda)\n'],
      [['-a', join(dir, 'missing'), '/x'], `virt-cat: ${join(dir, 'missing')}: no such file or directory\n`],
    ] as const)
      expect(tool('virt-cat', args)).toMatchObject({ stderr: message, status: 1, stdout: '' });
    const none = tool('virt-cat', ['-a', smallDisk(), '/x']);
    expect(none.stderr).toMatch(
      /no operating system was found on this disk; filesystems: \/dev\/sda \(ext4\); name one with -m DEVICE/,
    );
  });
  shared('reads a qcow2 over HTTP without downloading it', async () => {
    const qcow2 = join(dir, 'remote.qcow2');
    run('qemu-img', ['convert', '-O', 'qcow2', deb12(), qcow2]);
    const base = await serveFile(qcow2, 'ranges');
    const r = tool('virt-cat', ['-a', `${base}/image`, '/etc/os-release']);
    expect(r.stdout).toContain('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"');
    const { bytesSent } = (await (await fetch(`${base}/stats`)).json()) as { bytesSent: number };
    expect(bytesSent).toBeLessThan(statSync(qcow2).size / 4);
  });
  itNeeds('mke2fs', 'openssl')('reads over HTTPS with a certificate that Node is told to trust, and not without', async () => {
    run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '1',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      join(dir, 'key.pem'),
      '-out',
      join(dir, 'cert.pem'),
    ]);
    const base = await serveFile(smallDisk(), 'ranges', dir);
    const args = ['-a', `${base}/image`, '-m', '/dev/sda', '/etc/hello'];
    expect(tool('virt-cat', args, { env: { NODE_EXTRA_CA_CERTS: join(dir, 'cert.pem') } })).toMatchObject({
      stdout: 'hello\n',
      status: 0,
    });
    expect(tool('virt-cat', args)).toMatchObject({ status: 1, stderr: expect.stringMatching(/certificate/) });
  });
  itNeeds('mke2fs')('goes through the proxy that the environment names', async () => {
    const base = await serveFile(smallDisk(), 'ranges');
    const proxy = await serveProxy();
    const r = tool('virt-cat', ['-a', `${base}/image`, '-m', '/dev/sda', '/etc/hello'], {
      env: { http_proxy: `http://user:secret@${proxy.address}`, no_proxy: '' },
    });
    expect(r).toMatchObject({ stdout: 'hello\n', status: 0 });
    await new Promise((done) => setTimeout(done, 50));
    expect(proxy.tunnels().length).toBeGreaterThan(0);
    expect(proxy.tunnels()[0]).toBe(`CONNECT ${base.slice(7)} Basic ${Buffer.from('user:secret').toString('base64')}`);
  });
  shared('errors are JSON with --json, and a hostile guest stays inside its root', () => {
    const e = sharedEntries().find((x) => x.name.includes('evil-guest'))!;
    const image = sharedFile(e.name);
    const r = tool('virt-ls', ['--json', '-a', image, '-m', '/dev/sda', '/nowhere']);
    expect(JSON.parse(r.stderr)).toMatchObject({ error: { code: 'not-found', where: { path: '/nowhere' } } });
    const motd = tool('virt-cat', ['-a', image, '-m', '/dev/sda', '/realetc/motd']);
    expect(motd.stdout).not.toBe(readFileSync('/etc/passwd', 'utf8'));
    const environ = tool('virt-cat', ['-a', image, '-m', '/dev/sda', '/realetc/issue']);
    expect(environ.stdout).not.toContain('PATH=');
  });
});

describe('virt-ls', () => {
  itNeeds('mke2fs')('plain, recursive and with every column', () => {
    const m = ['-a', smallDisk(), '-m', '/dev/sda'];
    expect(tool('virt-ls', [...m, '/']).stdout).toBe('etc\nlost+found\nsub\n');
    expect(tool('virt-ls', ['-R', ...m, '/sub']).stdout).toBe('/big\n/deeper\n/deeper/ünïcode name\n/hard\n/link\n/sparse\n');
    expect(tool('virt-ls', ['-R', ...m, '/etc/']).stdout).toBe('hello\n');
    const lines = tool('virt-ls', ['-lR', '--checksum=sha256', '--time-t', '--uids', ...m, '/']).stdout.split('\n');
    const sha = createHash('sha256').update('hello\n').digest('hex');
    const hello = lines.find((l) => l.endsWith(' /etc/hello'))!;
    expect(hello).toMatch(new RegExp(`^- 4755          6    0    0(?: +[0-9]+) +981173106 +[0-9]+ ${sha} /etc/hello$`));
    expect(lines.find((l) => l.includes('/sub/link'))).toMatch(/^l 0777 .* \/sub\/link -> \.\.\/etc\/hello$/);
    const csv = tool('virt-ls', ['-lR', '--csv', ...m, '/sub']).stdout.split('\n');
    expect(csv).toContain('-,0644,3145728,/sub/big');
    expect(csv).toContain('l,0777,12,/sub/link,../etc/hello');
    const json = JSON.parse(tool('virt-ls', ['--json', '-lR', ...m, '/etc']).stdout);
    expect(json).toMatchObject([{ path: '/etc/hello', type: 'file', stat: { size: 6, links: 2, mtime: { sec: 981173106 } } }]);
  });
  itNeeds('mke2fs')('-l is ls -la', () => {
    const l = tool('virt-ls', ['-l', '-a', smallDisk(), '-m', '/dev/sda', '/etc']).stdout.split('\n');
    expect(l[0]).toMatch(/^total [0-9]+$/);
    expect(l[3]).toMatch(/^-rwsr-xr-x +2 0 0 +6 Feb {2}3 {2}2001 hello$/);
  });
  itNeeds('mke2fs')('cksum’s CRC is cksum’s CRC', () => {
    const line = tool('virt-ls', ['-lR', '--checksum=crc', '-a', smallDisk(), '-m', '/dev/sda', '/sub'])
      .stdout.split('\n')
      .find((l) => l.endsWith('/sub/big'))!;
    expect(line).toContain(` ${run('cksum', [], { input: Buffer.alloc(3 << 20, 'abc') }).split(' ')[0]} `);
  });
});

describe('virt-filesystems', () => {
  for (const e of sharedEntries().filter(
    (x) => x.kind === 'guest' && !x.bad && x.expected?.virt_filesystems && !/win|btrfs|debcrypt/.test(x.name),
  ))
    shared(`prints what libguestfs printed of ${e.name}`, () => {
      const r = tool('virt-filesystems', ['-a', sharedFile(e.name), '--all', '--long', '--uuids', '--csv']);
      expect(r.status).toBe(0);
      const [head, ...rows] = r.stdout
        .trim()
        .split('\n')
        .map((l) => l.split(','));
      const got = rows.map((row) => Object.fromEntries(head!.map((h, i) => [h, row[i]])));
      const want = e.expected.virt_filesystems.rows as Record<string, string>[];
      expect(got.map((g, i) => Object.fromEntries(Object.keys(want[i] ?? {}).map((k) => [k, g[k]])))).toEqual(want);
    });
  itNeeds('mke2fs')('default, long and JSON forms', () => {
    const image = smallDisk();
    expect(tool('virt-filesystems', ['-a', image]).stdout).toBe('/dev/sda\n');
    expect(tool('virt-filesystems', ['-a', image, '-l', '-h']).stdout).toMatch(
      /^Name +Type +VFS +Label +Size +Parent\n\/dev\/sda +filesystem +ext4 +small +[0-9.]+M +-\n$/,
    );
    expect(JSON.parse(tool('virt-filesystems', ['-a', image, '--json', '--uuid']).stdout)).toMatchObject([
      { name: '/dev/sda', type: 'filesystem', vfs: 'ext4', label: 'small', uuid: '11111111-2222-4333-8444-555555555555' },
    ]);
  });
});

const mounts = process.getuid?.() === 0 && hasTool('mount');
describe('virt-df', () => {
  itIf(mounts, 'mounting needs root')('shows what df shows of the kernel’s mount', () => {
    const image = smallDisk();
    const at = join(dir, 'mnt');
    mkdirSync(at, { recursive: true });
    run('mount', ['-o', 'loop,ro', image, at]);
    const df = run('df', ['--output=size,used,avail,itotal,iused,iavail', at]).trim().split('\n')[1]!.trim().split(/\s+/);
    run('umount', [at]);
    const line = tool('virt-df', ['-a', image]).stdout.split('\n');
    expect(line[0]).toBe('Filesystem                           1K-blocks       Used  Available  Use%');
    expect(line[1]!.split(/\s+/).slice(1, 4)).toEqual(df.slice(0, 3));
    expect(tool('virt-df', ['-i', '-a', image]).stdout.split('\n')[1]!.split(/\s+/).slice(1, 4)).toEqual(df.slice(3));
    expect(tool('virt-df', ['--csv', image, image]).stdout.split('\n').slice(0, 3)).toEqual([
      'VirtualMachine,Filesystem,1K-blocks,Used,Available,Use%',
      expect.stringMatching(/^small.img,\/dev\/sda,/),
      expect.stringMatching(/^small.img,\/dev\/sda,/),
    ]);
  });
});

describe('virt-df of many guests', () => {
  shared('prints them in order from several threads, and a broken one does not hide the others', () => {
    const images = [deb12(), smallDisk(), join(dir, 'none.img'), deb12(), smallDisk(), deb12()];
    const r = tool('virt-df', ['-P', '3', ...images.slice(0, 2), ...images.slice(3)]);
    expect(r.stderr).toBe('');
    expect(
      r.stdout
        .split('\n')
        .slice(1, -1)
        .map((l) => l.split(':')[0]),
    ).toEqual(['deb12.img', 'small.img', 'deb12.img', 'small.img', 'deb12.img']);
    expect(r.stdout).toBe(tool('virt-df', ['-P', '1', ...images.slice(0, 2), ...images.slice(3)]).stdout);
    writeFileSync(images[2]!, Buffer.from('QFI\xfb garbage', 'latin1'));
    const broken = tool('virt-df', images);
    expect(broken.status).toBe(1);
    expect(broken.stderr).toMatch(/^virt-df: none\.img: .*none\.img: /);
    expect(broken.stdout).toBe(r.stdout);
  });
});

describe('virt-tar-out and virt-copy-out', () => {
  shared('GNU tar unpacks the archive to what the kernel’s mount shows: contents, links, owners, times, attributes', () => {
    if (!mounts || !hasTool('rsync')) return;
    const tar = join(dir, 'root.tar');
    const image = deb12();
    expect(tool('virt-tar-out', ['-a', image, '/', tar])).toMatchObject({ status: 0, stderr: '' });
    const at = join(dir, 'mnt-deb12');
    const unpacked = join(dir, 'unpacked');
    const copied = join(dir, 'copied');
    for (const d of [at, unpacked, copied]) mkdirSync(d, { recursive: true });
    run('tar', ['-C', unpacked, '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '-xpf', tar]);
    expect(tool('virt-copy-out', ['-a', image, '/etc', '/usr/bin', '/dev', copied])).toMatchObject({ status: 0, stderr: '' });
    run('mount', ['-o', 'loop,ro,noload,offset=1048576', image, at]);
    try {
      expect(
        run('rsync', [
          '-naHAXS',
          '--checksum',
          '--itemize-changes',
          '--delete',
          '--exclude=/lost+found',
          `${at}/`,
          `${unpacked}/`,
        ]),
      ).toBe('');
      for (const d of ['etc', 'usr/bin', 'dev'])
        expect(
          run('rsync', [
            '-naHAXS',
            '--checksum',
            '--itemize-changes',
            '--delete',
            `${at}/${d}/`,
            `${copied}/${d.split('/').pop()}/`,
          ]),
        ).toBe('');
    } finally {
      run('umount', [at]);
    }
  });
  itNeeds('mke2fs')('holes are kept, and an independent reader agrees on every entry', async () => {
    const image = smallDisk();
    const tar = join(dir, 'sub.tar');
    expect(tool('virt-tar-out', ['-a', image, '-m', '/dev/sda', '/sub', tar]).status).toBe(0);
    expect(statSync(tar).size).toBeLessThan(4 << 20);
    const out = join(dir, 'sub');
    mkdirSync(out);
    run('tar', ['-C', out, '-xpf', tar]);
    expect(Buffer.compare(readFileSync(join(out, 'sparse')), readFileSync(join(dir, 'small/sub/sparse')))).toBe(0);
    expect(statSync(join(out, 'sparse')).blocks).toBeLessThan(1000);
    const plain = tool('virt-tar-out', ['--no-sparse', '-a', image, '-m', '/dev/sda', '/sub', '-']).bytes;
    const seen: Record<string, string | undefined> = {};
    await new Promise<void>((resolve, reject) => {
      const x = extract();
      x.on('entry', (header, stream, next) => {
        seen[header.name] =
          header.type === 'file'
            ? String(header.size)
            : header.type === 'link' || header.type === 'symlink'
              ? `${header.type} ${header.linkname}`
              : String(header.type);
        stream.on('end', next);
        stream.resume();
      });
      x.on('finish', resolve);
      x.on('error', reject);
      x.end(plain);
    });
    expect(seen).toEqual({
      './': 'directory',
      './big': '3145728',
      './deeper/': 'directory',
      './deeper/ünïcode name': '1',
      './hard': '6',
      './link': 'symlink ../etc/hello',
      './sparse': '5242880',
    });
  });
  itNeeds('mke2fs')('a failed archive leaves nothing behind', () => {
    const target = join(dir, 'none.tar');
    const r = tool('virt-tar-out', ['-a', smallDisk(), '-m', '/dev/sda', '/missing', target]);
    expect(r).toMatchObject({ status: 1, stderr: 'virt-tar-out: /missing: no such file or directory\n' });
    expect(run('ls', [dir])).not.toContain('none.tar');
  });
});

describe('virt-diff', () => {
  itNeeds('mke2fs', 'debugfs')('added, removed and changed files with a unified diff', () => {
    const before = smallDisk();
    const after = join(dir, 'after.img');
    run('cp', ['--sparse=always', before, after]);
    writeFileSync(join(dir, 'new-hello'), 'hello\nworld\n');
    run('debugfs', ['-w', '-R', 'rm /sub/big', after]);
    run('debugfs', ['-w', '-R', `write ${join(dir, 'new-hello')} sub/new`, after]);
    run('debugfs', ['-w', '-R', 'symlink sub/link2 elsewhere', after]);
    const m = (image: string, flag: string) => [flag, image];
    expect(tool('virt-diff', [...m(before, '-a'), ...m(before, '-A')]).status).toBe(1);
    expect(tool('virt-diff', [...m(before, '-a'), ...m(before, '-A')]).stderr).toMatch(/no operating system/);
    const r = tool('virt-diff', ['-m', '/dev/sda', ...m(before, '-a'), ...m(after, '-A')]);
    expect(r.stderr).toBe('');
    const lines = r.stdout.split('\n').filter((l) => !l.startsWith('#'));
    expect(lines.some((l) => /^- - 0644 +3145728 \/sub\/big$/.test(l))).toBe(true);
    expect(lines.some((l) => /^\+ - 0[0-9]{3} +12 \/sub\/new$/.test(l))).toBe(true);
    expect(lines.some((l) => /^\+ l 0777 +9 \/sub\/link2 -> elsewhere$/.test(l))).toBe(true);
    expect(
      JSON.parse(tool('virt-diff', ['--json', '-m', '/dev/sda', ...m(before, '-a'), ...m(after, '-A')]).stdout).map(
        (d: { change: string; path: string }) => `${d.change} ${d.path}`,
      ),
    ).toEqual(expect.arrayContaining(['removed /sub/big', 'added /sub/new', 'added /sub/link2']));
  });
  shared('an overlay on the same backing file: only the changed file is named', () => {
    const base = deb12();
    const overlay = join(dir, 'overlay.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, overlay]);
    expect(tool('virt-diff', ['-a', base, '-A', overlay])).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });
});

describe('-d: disks of a libvirt domain', () => {
  /** A virsh that knows one domain, whose first drive is a CD-ROM and whose disk is a qcow2 called raw by nobody. */
  const withVirsh = (xml: string) => {
    const bin = join(dir, 'bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'domain.xml'), xml);
    writeFileSync(
      join(bin, 'virsh'),
      `#!/bin/sh\nwhile [ "$1" != dumpxml ] && [ "$1" != list ] && [ "$1" != domuuid ]; do shift; done\ncase "$1" in\nlist) echo guest;;\ndomuuid) echo 11111111-2222-3333-4444-555555555555;;\ndumpxml) if [ "$2" = guest ]; then cat ${bin}/domain.xml; else echo "error: failed to get domain '$2'" >&2; exit 1; fi;;\nesac\n`,
      { mode: 0o755 },
    );
    return { PATH: `${bin}:${process.env['PATH']}` };
  };
  itNeeds('mke2fs')('are found in its XML, CD-ROMs left out; unknown domains and a missing virsh are named', () => {
    const env = withVirsh(
      `<domain><name>guest</name><devices><disk type='file' device='cdrom'><source file='/nowhere.iso'/></disk><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${smallDisk()}'/></disk></devices></domain>`,
    );
    expect(tool('virt-cat', ['-d', 'guest', '-m', '/dev/sda', '/etc/hello'], { env })).toMatchObject({
      stdout: 'hello\n',
      status: 0,
    });
    expect(tool('virt-df', [], { env }).stdout).toMatch(/^guest:\/dev\/sda /m);
    expect(tool('virt-df', ['--uuid', '-d', 'guest'], { env }).stdout).toMatch(
      /^11111111-2222-3333-4444-555555555555:\/dev\/sda/m,
    );
    expect(tool('virt-cat', ['-d', 'other', '/x'], { env })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/failed to get domain 'other'/),
    });
    expect(tool('virt-cat', ['-d', 'guest', '/x'], { env: { PATH: '/nonexistent' } }).stderr).toMatch(/virsh is not installed/);
  });
});

describe('other ways to the same bytes', () => {
  shared('without the native addon every reader prints the same', () => {
    const env = { GUESTWRIGHT_NO_ADDON: '1' };
    for (const [name, args] of [
      ['virt-inspector', ['-a', deb12()]],
      ['virt-ls', ['-lR', '--checksum=sha256', '-a', deb12(), '/etc']],
      ['virt-df', ['-a', deb12()]],
      ['virt-cat', ['-a', sharedFile('guest/debcrypt.img.zst'), '--key', 'all:key:debian crypt', '/etc/hostname']],
    ] as const) {
      const pure = tool(name, args, { env });
      expect(pure.status).toBe(0);
      expect(pure.stdout).toBe(tool(name, args).stdout);
    }
  });
  itIf(mounts && hasTool('losetup') && hasSharedData(), 'loop devices need root, and the shared data')(
    'a block device, with and without the addon, and with 4096-byte sectors',
    () => {
      const device = run('losetup', ['-f', '--show', '-r', deb12()]).trim();
      try {
        for (const env of [{}, { GUESTWRIGHT_NO_ADDON: '1' }])
          expect(tool('virt-cat', ['-a', device, '/etc/hostname'], { env }).stdout).toBe('bookworm-essential\n');
      } finally {
        run('losetup', ['-d', device]);
      }
      const image = join(dir, '4k.img');
      writeFileSync(image, '');
      run('truncate', ['-s', '64M', image]);
      const large = run('losetup', ['-f', '--show', '-b', '4096', image]).trim();
      run('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', large], { input: 'label: dos\nsize=32M\n' });
      run('losetup', ['-d', large]);
      expect(JSON.parse(tool('virt-filesystems', ['--blocksize=4096', '-a', image, '--parts', '--json']).stdout)).toMatchObject([
        { name: '/dev/sda1', size: 32 << 20 },
      ]);
    },
  );
  shared('--format forces, and says what it found instead', () => {
    expect(tool('virt-cat', ['--format=raw', '-a', deb12(), '/etc/hostname']).stdout).toBe('bookworm-essential\n');
    const r = tool('virt-cat', ['--format=qcow2', '-a', deb12(), '/etc/hostname']);
    expect(r).toMatchObject({ status: 1, stderr: expect.stringMatching(/not a qcow2 image/) });
    expect(tool('virt-cat', ['--format=nonsense', '-a', deb12(), '/x']).stderr).toMatch(/nonsense/);
  });
});

describe('the other readers', () => {
  shared('virt-get-kernel copies the newest kernel', () => {
    const r = tool('virt-get-kernel', ['-a', deb12(), '-o', dir, '--unversioned-names', '--prefix', 'deb']);
    expect(r.stdout).toBe(`download: /boot/vmlinuz-6.1.0-9-amd64 -> ${dir}/deb-vmlinuz\n`);
    expect(readFileSync(join(dir, 'deb-vmlinuz'))).toHaveLength(12);
  });
  shared('virt-alignment-scan: statuses 0, 2 and 3', () => {
    expect(tool('virt-alignment-scan', ['-a', deb12()])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\/dev\/sda1 +1048576 +1024K +ok$/m),
    });
    for (const [start, status] of [
      [2048 + 8, 2],
      [2048 + 1, 3],
    ] as const) {
      const image = join(dir, `align-${start}.img`);
      writeFileSync(image, '');
      run('truncate', ['-s', '16M', image]);
      run('sfdisk', ['-q', image], { input: `label: dos\nstart=${start}, size=4096\n` });
      expect(tool('virt-alignment-scan', ['-q', '-a', image])).toMatchObject({ status, stdout: '' });
      expect(tool('virt-alignment-scan', ['-a', image]).stdout).toMatch(/bad \(alignment < (?:64K|4K)\)/);
    }
  });
  itNeeds('mke2fs')('virt-tail shows the last lines', () => {
    const r = tool('virt-tail', ['--no-follow', '-n', '1', '-a', smallDisk(), '-m', '/dev/sda', '/etc/hello', '/sub/link']);
    expect(r.stdout).toBe('==> /etc/hello <==\nhello\n\n==> /sub/link <==\nhello\n');
  });
  shared('guestwright stack and doctor, as text and as JSON', () => {
    const stack = tool('guestwright', ['stack', deb12()]).stdout;
    expect(stack).toMatch(
      /├─ \/dev\/sda1 {2}type 83 .*\n│ {2}└─ ext4 {2}"deb12root" .* used {2}mounted on \/\n│ {5}└─ debian 12\.15 \(x86_64, bookworm-essential\)/,
    );
    expect(JSON.parse(tool('guestwright', ['stack', '--json', deb12()]).stdout)[0]).toMatchObject({
      kind: 'disk',
      format: { name: 'raw' },
      children: [{ device: '/dev/sda1' }, { device: '/dev/sda2' }],
    });
    const doctor = JSON.parse(tool('guestwright', ['doctor', '--json']).stdout) as { what: string; ok: boolean }[];
    expect(doctor.map((f) => f.what)).toEqual(
      expect.arrayContaining([
        'addon: sysio',
        'addon: codec',
        'libfuse3',
        '/dev/fuse',
        '/dev/kvm',
        'qemu-system-x86_64',
        'virsh',
      ]),
    );
  });
});

describe('every command', () => {
  const names = Object.keys(
    JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')).bin as Record<string, string>,
  ).filter((n) => n.startsWith('virt-') && n !== 'virt-img');
  it.each(names)('%s has --help with examples, --version, option lists, and refuses an unknown option', (name) => {
    const help = tool(name, ['--help']);
    expect(help.status).toBe(0);
    expect(help.stdout).toMatch(/^Usage:$/m);
    expect(help.stdout).toMatch(/^Examples:$/m);
    expect(help.stdout).toMatch(/-v, --verbose/);
    expect(tool(name, ['--version']).stdout).toMatch(new RegExp(`^${name} \\(guestwright\\) [0-9.]+\\n$`));
    expect(tool(name, ['--long-options']).stdout.split('\n')).toContain('--help');
    expect(tool(name, ['--short-options']).stdout.split('\n')).toContain('-v');
    const bad = tool(name, ['--no-such-option']);
    expect(bad.status).toBe(1);
    expect(bad.stderr).toContain("unknown option '--no-such-option'");
    expect(tool('guestwright', [name.slice(5), '--version']).stdout).toMatch(new RegExp(`^${name} `));
  });
  it('completion scripts parse in their shells', () => {
    const script = join(dir, 'completion.bash');
    writeFileSync(script, tool('guestwright', ['completion', 'bash']).stdout);
    const words = run('bash', [
      '-c',
      `source ${script}; COMP_WORDS=(virt-cat --ke); COMP_CWORD=1; _guestwright; echo "\${COMPREPLY[@]}"; COMP_WORDS=(guestwright ls --rec); COMP_CWORD=2; _guestwright; echo "\${COMPREPLY[@]}"`,
    ]);
    expect(words).toBe('--key --keys-from-stdin\n--recursive\n');
    for (const shell of ['zsh', 'fish'] as const) {
      const text = tool('guestwright', ['completion', shell]).stdout;
      expect(text).toContain('virt-filesystems');
      const file = join(dir, `completion.${shell}`);
      writeFileSync(file, text);
      if (hasTool(shell)) run(shell, ['-n', file]);
    }
  });
});
