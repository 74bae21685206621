import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { itNeeds, run } from '../helpers/needs.js';
import { tool } from '../helpers/tool.js';
import { testDisks } from './disk.js';
import { runAsync, serve, serveQemu } from './serve.js';

const { path, rawDisk } = testDisks();
const MiB = 1 << 20;

describe('hostile clients', () => {
  /** A connection that has chosen the export, by hand. */
  async function chosen(socket: string) {
    const { connect } = await import('node:net');
    const c = connect(socket);
    c.on('error', () => {});
    c.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])]));
    await new Promise((done) => c.once('data', done));
    return c;
  }
  const rss = (pid: number) => Number(/VmHWM:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
  const request = (type: number, length: number) => {
    const b = Buffer.alloc(28);
    b.writeUInt32BE(0x25609513, 0);
    b.writeUInt16BE(type, 6);
    b.writeUInt32BE(length, 24);
    return b;
  };

  itNeeds('nbdcopy')('who asks for much and reads nothing costs little and holds nobody up', async () => {
    const { file, bytes } = rawDisk();
    const s = await serve(['-r', '-t', '-f', 'raw', '-k', path('s'), file]);
    const greedy = [];
    for (let i = 0; i < 4; i++) {
      const c = await chosen(s.socket);
      c.pause();
      c.write(Buffer.concat(Array.from({ length: 2000 }, () => request(0, 16 * MiB))));
      greedy.push(c);
    }
    const copy = path('copy');
    const r = await runAsync('nbdcopy', [s.uri, copy]);
    expect(r).toMatchObject({ status: 0, stderr: '' });
    expect(Buffer.compare(readFileSync(copy), bytes)).toBe(0);
    // Four answers of 16 MiB that wait, and Node itself; 8000 of them would be 125 GiB.
    expect(rss(s.child.pid!)).toBeLessThan(400 * MiB);
    for (const c of greedy) c.destroy();
    s.child.kill('SIGTERM');
    expect(await s.ended).toBe(0);
  });

  itNeeds('nbdinfo')(
    'who announces a write and sends it byte by byte, or garbage, or goes in the middle, ends alone',
    async () => {
      const { file, bytes } = rawDisk();
      const s = await serve(['-t', '-e', '0', '-f', 'raw', '-k', path('s'), file]);
      const slow = await chosen(s.socket);
      slow.write(request(1, 32 * MiB));
      for (let i = 0; i < 300; i++) slow.write(Buffer.from([i & 255]));
      const garbage = await chosen(s.socket);
      const closed = new Promise((done) => garbage.once('close', done));
      garbage.write(Buffer.alloc(100, 0xff));
      await closed;
      const leaves = await chosen(s.socket);
      leaves.write(Buffer.concat([request(1, 1000), Buffer.alloc(500, 1)]));
      leaves.destroy();
      run('nbdinfo', [s.uri]);
      slow.destroy();
      s.child.kill('SIGTERM');
      expect(await s.ended).toBe(0);
      expect(Buffer.compare(readFileSync(file), bytes)).toBe(0);
    },
  );
});

describe('TLS', () => {
  function certificates(): string {
    const d = path('pki');
    mkdirSync(d);
    const ssl = (...args: string[]) => run('openssl', args, { cwd: d });
    ssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      'ca-key.pem',
      '-out',
      'ca-cert.pem',
      '-subj',
      '/CN=test CA',
      '-days',
      '2',
    );
    for (const who of ['server', 'client']) {
      ssl(
        'req',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-keyout',
        `${who}-key.pem`,
        '-out',
        `${who}.csr`,
        '-subj',
        '/CN=localhost',
      );
      writeFileSync(join(d, 'ext'), `subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=${who}Auth\n`);
      ssl(
        'x509',
        '-req',
        '-in',
        `${who}.csr`,
        '-CA',
        'ca-cert.pem',
        '-CAkey',
        'ca-key.pem',
        '-CAcreateserial',
        '-out',
        `${who}-cert.pem`,
        '-days',
        '2',
        '-extfile',
        'ext',
      );
    }
    return d;
  }

  itNeeds(
    'openssl',
    'nbdinfo',
    'nbdcopy',
    'qemu-img',
  )('qemu-img, libnbd and our client read through it; without it nothing is told', async () => {
    const pki = certificates();
    const { file, bytes } = rawDisk();
    const s = await serve([
      '-r',
      '-t',
      '-f',
      'raw',
      '-p',
      '0',
      '-x',
      'secret',
      '--object',
      `tls-creds-x509,id=t,endpoint=server,dir=${pki},verify-peer=on`,
      '--tls-creds',
      't',
      file,
    ]);
    const { port } = s.ready;
    expect(s.uri).toBe(`nbds://127.0.0.1:${port}/secret`);
    const uri = `nbds://localhost:${port}/secret?tls-certificates=${pki}`;
    const copy = path('copy');
    run('nbdcopy', [uri, copy]);
    expect(Buffer.compare(readFileSync(copy), bytes)).toBe(0);
    run('qemu-img', [
      'compare',
      '--object',
      `tls-creds-x509,id=c,endpoint=client,dir=${pki}`,
      '--image-opts',
      `driver=nbd,host=localhost,port=${port},export=secret,tls-creds=c`,
      `driver=raw,file.filename=${file}`,
    ]);
    const ours = path('ours');
    expect(tool('virt-img', ['convert', '-f', 'raw', '-O', 'raw', uri, ours])).toMatchObject({ status: 0, stderr: '' });
    expect(Buffer.compare(readFileSync(ours), bytes)).toBe(0);
    const info = (address: string) => tool('virt-img', ['info', address]).stderr;
    expect(info(`nbd://localhost:${port}/secret`)).toMatch(/the server requires TLS \(use nbds:\/\/\)/);
    expect(info(`nbds://localhost:${port}/secret`)).toMatch(/TLS: .*certificate/);
    rmSync(join(pki, 'client-cert.pem'));
    expect(info(uri)).toMatch(/TLS|certificate|closed|lost/);
    const list = await runAsync('nbdinfo', ['--list', `nbd://localhost:${port}/`]);
    expect(list.stdout).not.toContain('secret');

    // And our client against qemu-nbd's TLS.
    const theirs = path('theirs');
    await serveQemu(theirs, [
      '-r',
      '-f',
      'raw',
      '-e',
      '0',
      '--object',
      `tls-creds-x509,id=t,endpoint=server,dir=${pki},verify-peer=no`,
      '--tls-creds',
      't',
      file,
    ]);
    const copy2 = path('copy2');
    const r = tool('virt-img', [
      'convert',
      '-f',
      'raw',
      '-O',
      'raw',
      `nbds+unix:///?socket=${theirs}&tls-certificates=${pki}`,
      copy2,
    ]);
    expect(r).toMatchObject({ status: 0, stderr: '' });
    expect(Buffer.compare(readFileSync(copy2), bytes)).toBe(0);
  });
});
