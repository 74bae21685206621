import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasSysio } from '../../lib/addon/sysio.js';
import { MemorySource } from '../../lib/block/memory.js';
import { explain } from '../../lib/core/errors.js';
import { type OpenImageOptions, openImage } from '../../lib/image/open.js';
import { parseFileName } from '../../lib/image/reference.js';
import { formatByName } from '../../lib/image/registry.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { all, makeQcow2, openRw } from './qcow2-helpers.js';

const dir = temporaryFolder();
const SIZE = 1 << 20;
mkdirSync(join(dir, 'sub'));
const at = (name: string) => join(dir, name);
const failure = (path: string, options?: OpenImageOptions): string => {
  try {
    openImage(path, options).close();
  } catch (e) {
    return explain(e).replaceAll(`${dir}/`, '');
  }
  return 'opened';
};
const backed = (name: string, backing: string, format = 'raw') => {
  makeQcow2(at(name), SIZE, {}, { backing: { name: backing, format } });
  return at(name);
};
writeFileSync(at('base.raw'), new Uint8Array(SIZE).fill(0x42));

describe('references', () => {
  it('are relative to the image that has them', () => {
    const image = openImage(backed('sub/rel.qcow2', '../base.raw'));
    expect(all(image).every((x) => x === 0x42)).toBe(true);
    image.close();
  });
  for (const name of [
    'file:BASE',
    'json:{"driver":"raw","file":{"driver":"file","filename":"BASE"}}',
    'json:{"file.filename":"BASE","driver":"raw"}',
  ])
    it(`understands ${name}`, () => {
      const image = openImage(backed('named.qcow2', name.replace('BASE', at('base.raw'))));
      expect(all(image)[5]).toBe(0x42);
      image.close();
    });
  it('outside the folder are refused where the policy says so', () => {
    const path = backed('sub/out.qcow2', '../base.raw');
    expect(failure(path, { references: 'same-folder' })).toMatch(/backing file \.\.\/base\.raw: it is outside the folder/);
    expect(failure(path, { references: 'none' })).toMatch(/may not name other files/);
    expect(failure(path, { references: 'none', noBacking: true })).toBe('opened');
    expect(failure(backed('in.qcow2', 'base.raw'), { references: 'same-folder' })).toBe('opened');
    writeFileSync(at('sub/x'), '');
    run('ln', ['-sf', '/etc/passwd', at('sub/link')]);
    expect(failure(backed('sub/linked.qcow2', 'link'), { references: 'same-folder' })).toMatch(/outside the folder/);
  });
  for (const name of [
    'nbd://localhost/x',
    'http://example.org/a.img',
    'json:{"driver":"nbd","host":"localhost"}',
    'json:{"driver":"raw","file":{"driver":"https","url":"https://x"}}',
    'ssh://host/x',
    'rbd:pool/x',
  ])
    it(`to ${name} are refused`, () => {
      expect(failure(backed('remote.qcow2', name))).toMatch(/may not name remote addresses/);
      const asked: string[] = [];
      const memory = new MemorySource(new Uint8Array(SIZE).fill(9));
      const image = openImage(at('remote.qcow2'), {
        allowRemote: true,
        openFile: (n) => {
          if (!n.includes(':')) return undefined;
          asked.push(n);
          return memory;
        },
      });
      expect(all(image)[0]).toBe(9);
      expect(asked.at(-1)).toBe(name);
      image.close();
    });
  it('that are missing are named with the chain', () => {
    backed('mid.qcow2', 'gone.raw');
    expect(failure(backed('top.qcow2', 'mid.qcow2', 'qcow2'))).toBe(
      'top.qcow2: backing file mid.qcow2: backing file gone.raw: no such file or directory',
    );
  });
  it('that come back are found', () => {
    backed('loop-a.qcow2', 'loop-b.qcow2', 'qcow2');
    backed('loop-b.qcow2', 'loop-a.qcow2', 'qcow2');
    expect(failure(at('loop-a.qcow2'))).toMatch(/comes back to an image it began with/);
    run('ln', ['-f', at('loop-a.qcow2'), at('hard.qcow2')]);
    expect(failure(at('hard.qcow2'))).toMatch(/comes back/);
  });
  it('are bounded in depth', () => {
    for (let i = 0; i < 70; i++) backed(`deep-${i}.qcow2`, `deep-${i + 1}.qcow2`, 'qcow2');
    makeQcow2(at('deep-70.qcow2'), SIZE);
    expect(failure(at('deep-0.qcow2'))).toMatch(/more than 64 images in a chain/);
    expect(failure(at('deep-10.qcow2'))).toBe('opened');
  });
  itNeeds('qemu-img')('without a recorded format are probed for reading, and refused for writing', () => {
    run('cp', [at('in.qcow2'), at('noformat.qcow2')]);
    const image = openRw(at('noformat.qcow2'));
    image.changeBacking('base.raw');
    image.close();
    const read = openImage(at('noformat.qcow2'));
    expect(read.describe().features).toContain('backing file format not recorded (probed: raw)');
    expect(all(read)[0]).toBe(0x42);
    read.close();
    expect(failure(at('noformat.qcow2'), { writable: true })).toMatch(
      /format is not recorded.*rebase -u -b "base.raw" -F FORMAT/,
    );
  });
});

describe('formats', () => {
  it('a forced format that is not there says what is', () => {
    makeQcow2(at('f.qcow2'), SIZE);
    expect(failure(at('f.qcow2'), { format: 'vmdk' })).toBe('f.qcow2: not a vmdk image (it is qcow2)');
    expect(failure(at('base.raw'), { format: 'qcow2' })).toMatch(/no known signature is there/);
    const raw = openImage(at('f.qcow2'), { format: 'raw' });
    expect(raw.format).toBe('raw');
    raw.close();
  });
  it('names and aliases', () => {
    expect(formatByName('VHD').name).toBe('vpc');
    expect(() => formatByName('nonsense')).toThrow(/"nonsense" is not known \(qcow2, .*raw\)/);
  });
  it('missing and odd names', () => {
    expect(failure(at('missing'))).toBe('missing: no such file or directory');
    expect(failure('nbd://x/y')).toMatch(/cannot be opened/);
    expect(() => parseFileName('json:{')).toThrow(/not JSON/);
    expect(() => parseFileName('json:{"driver":"qcow2","file":{"driver":"file"}}')).toThrow(/without a "filename"/);
    expect(parseFileName('a/b:c')).toEqual({ kind: 'path', name: 'a/b:c' });
  });
});

describe('locks', () => {
  const locking = itIf(hasSysio() && hasTool('qemu-io'), 'the native addon or qemu-io is missing');
  locking('a writer keeps others out, readers share', () => {
    makeQcow2(at('l.qcow2'), SIZE);
    const one = openImage(at('l.qcow2'));
    const two = openImage(at('l.qcow2'));
    expect(failure(at('l.qcow2'), { writable: true })).toMatch(/in use by .*\(pid \d+\)/);
    one.close();
    two.close();
    const writer = openRw(at('l.qcow2'));
    expect(failure(at('l.qcow2'))).toMatch(/in use/);
    expect(failure(at('l.qcow2'), { forceShare: true })).toBe('opened');
    expect(() => run('qemu-img', ['info', at('l.qcow2')])).toThrow(/lock/);
    writer.close();
    expect(failure(at('l.qcow2'), { writable: true })).toBe('opened');
  });
  locking("QEMU's lock is respected and its holder named", async () => {
    makeQcow2(at('q.qcow2'), SIZE);
    const child = spawn('qemu-io', ['-f', 'qcow2', at('q.qcow2')], { stdio: ['pipe', 'pipe', 'ignore'] });
    child.stdin.write('write -P 1 0 512\n');
    await new Promise((done) => child.stdout.once('data', done));
    expect(failure(at('q.qcow2'))).toMatch(new RegExp(`q.qcow2: in use by qemu-io \\(pid ${child.pid}\\)`));
    child.stdin.end('quit\n');
    await new Promise((done) => child.once('exit', done));
    expect(failure(at('q.qcow2'), { writable: true })).toBe('opened');
  });
});
