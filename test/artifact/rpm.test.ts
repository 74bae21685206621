import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Package } from '../../lib/artifact/package.js';
import { rpmPackages } from '../../lib/artifact/rpm/index.js';
import { GuestError } from '../../lib/core/errors.js';
import { hasTool, itIf, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const row = (p: Package) => [p.name, p.epoch || '(none)', p.version, p.release, p.arch || '(none)'].join('|');

describe('rpm databases of the shared data', () => {
  itIf(hasSharedData(), noSharedData)('hold the packages that rpm itself lists', () => {
    const entries = sharedEntries().filter((e) => e.kind === 'rpmdb');
    expect(entries.length).toBeGreaterThanOrEqual(4);
    for (const e of entries) {
      const problems: string[] = [];
      const found = rpmPackages(readFileSync(sharedFile(e.name)), { problems });
      expect([e.name, found.map(row).sort()]).toEqual([e.name, [...e.expected.package_list].sort()]);
      expect(problems).toEqual([]);
    }
  });
});

/** A package with every field that we read, built by rpmbuild's lighter sister where there is one. */
const spec = (name: string, n: number) => `Name: ${name}
Epoch: ${n}
Version: 1.${n}
Release: 2.test
Summary: package number ${n}, größer
License: GPL-2.0-or-later AND MIT
URL: https://example.org/${name}?a=${n}
Vendor: Example Vendor
BuildArch: noarch
%description
${`A long text of line ${n}.\n`.repeat(n * 400)}
%files
`;

const need = ['rpm', 'rpmbuild', 'sqlite3', 'db5.3_load'].filter((p) => !hasTool(p));
const whenMade = itIf(need.length === 0, `${need.join(', ')} not installed`);
const made = need.length === 0 ? makeDatabase() : undefined;

/** An SQLite database that rpm wrote: five packages in, one out again, so that there is free space with old headers in it. */
function makeDatabase(): { readonly dir: string; readonly want: readonly string[]; readonly blobs: readonly Buffer[] } {
  const dir = temporaryFolder();
  mkdirSync(join(dir, 'db'));
  const define = ['--define', `_topdir ${dir}/build`, '--define', `_dbpath ${dir}/db`, '--define', '_db_backend sqlite'];
  for (let n = 1; n <= 5; n++) {
    writeFileSync(join(dir, `p${n}.spec`), spec(`made-${n}`, n));
    run('rpmbuild', ['-bb', '--quiet', ...define, join(dir, `p${n}.spec`)], { cwd: dir });
  }
  const rpms = readdirSync(join(dir, 'build/RPMS/noarch')).map((f) => join(dir, 'build/RPMS/noarch', f));
  run('rpm', [...define, '--initdb']);
  run('rpm', [...define, '-i', '--justdb', '--nodeps', '--force-debian', ...rpms]);
  run('rpm', [...define, '-e', '--justdb', '--nodeps', '--force-debian', 'made-3']);
  const tags = 'NAME EPOCH VERSION RELEASE ARCH SUMMARY LICENSE URL VENDOR SIZE INSTALLTIME SOURCERPM DESCRIPTION'.split(' ');
  const format = `${tags.map((t) => `%{${t}}`).join('|')}\n@@\n`;
  const want = run('rpm', [...define, '-qa', '--queryformat', format])
    .split('\n@@\n')
    .slice(0, -1)
    .sort();
  const blobs = run('sqlite3', [join(dir, 'db/rpmdb.sqlite'), 'select hex(blob) from Packages']);
  return {
    dir,
    want,
    blobs: blobs
      .trim()
      .split('\n')
      .map((h) => Buffer.from(h, 'hex')),
  };
}

const allFields = (p: Package) =>
  [p.name, p.epoch, p.version, p.release, p.arch, p.summary, p.license, p.url, p.publisher, p.installedSize, p.installedAt]
    .concat(`${p.sourcePackage}-${p.sourceVersion}.src.rpm`, p.description!)
    .join('|');
function checkAgainstRpm(file: Uint8Array, wal?: Uint8Array): void {
  const problems: string[] = [];
  const found = rpmPackages(file, { problems, ...(wal === undefined ? {} : { wal }) });
  expect(found.map(allFields).sort()).toEqual(made!.want);
  expect(found.length).toBe(4);
  expect(problems).toEqual([]);
}

/** What rpm's ndb back end would write for these blobs: Debian's rpm is built without it.  The blobs are in reverse order, one slot is free. */
function ndb(blobs: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(4096);
  head.write('RpmP');
  head.writeUInt32LE(1, 8);
  head.writeUInt32LE(1, 12);
  head.writeUInt32LE(blobs.length + 1, 16);
  for (let at = 32; at < 4096; at += 16) head.write('Slot', at);
  const parts: Buffer[] = [head];
  let block = 4096 / 16;
  for (const [i, data] of [...blobs.entries()].reverse()) {
    const blocks = Math.ceil((16 + data.length + 12) / 16);
    const b = Buffer.alloc(blocks * 16);
    b.write('BlbS');
    b.writeUInt32LE(i + 1, 4);
    b.writeUInt32LE(1, 8);
    b.writeUInt32LE(data.length, 12);
    b.set(data, 16);
    b.writeUInt32LE(data.length, b.length - 8);
    b.write('BlbE', b.length - 4);
    const slot = 32 + (i + 1) * 16;
    head.writeUInt32LE(i + 1, slot + 4);
    head.writeUInt32LE(block, slot + 8);
    head.writeUInt32LE(blocks, slot + 12);
    parts.push(b);
    block += blocks;
  }
  return Buffer.concat(parts);
}

describe('every field as rpm --queryformat prints it', () => {
  whenMade('from the SQLite database that rpm wrote', () => {
    const file = join(made!.dir, 'db/rpmdb.sqlite');
    checkAgainstRpm(readFileSync(file), existsSync(`${file}-wal`) ? readFileSync(`${file}-wal`) : undefined);
  });
  whenMade('from an ndb file of the same headers', () => checkAgainstRpm(ndb(made!.blobs)));
  for (const [order, pageSize] of [
    [1234, 4096],
    [4321, 4096],
    [4321, 512],
    [1234, 65536],
  ] as const)
    whenMade(`from a Berkeley DB hash in byte order ${order} with pages of ${pageSize} bytes`, () => {
      const file = join(made!.dir, `Packages-${order}-${pageSize}`);
      // Record 0 is rpm's counter of records.
      const records = [Buffer.alloc(4), ...made!.blobs].map((data, i) => ` ${key(i, order)}\n ${data.toString('hex')}\n`);
      const text = `VERSION=3\nformat=bytevalue\ntype=hash\ndb_lorder=${order}\ndb_pagesize=${pageSize}\nHEADER=END\n${records.join('')}DATA=END\n`;
      run('db5.3_load', [file], { input: text });
      checkAgainstRpm(readFileSync(file));
    });
});
const key = (n: number, order: number) => {
  const b = Buffer.alloc(4);
  if (order === 1234) b.writeUInt32LE(n);
  else b.writeUInt32BE(n);
  return b.toString('hex');
};

describe('rpm databases that are damaged', () => {
  it('says which formats it looked for', () => {
    expect(() => rpmPackages(new Uint8Array(1000))).toThrow(GuestError);
    expect(() => rpmPackages(new Uint8Array(1000))).toThrow('not an rpm database (tried ndb, Berkeley DB hash, SQLite)');
  });
  itIf(hasSharedData(), noSharedData)('gives what is before the cut of a file that ends early', () => {
    const whole = readFileSync(sharedFile('rpmdb/centos6-plain/Packages.zst'));
    const problems: string[] = [];
    const found = rpmPackages(whole.subarray(0, whole.length >> 1), { problems });
    expect(found.length).toBeGreaterThan(10);
    expect(found.length).toBeLessThan(129);
    expect(problems.join('\n')).toMatch(/overflow page \d+ is outside the file/);
  });
});
