import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseApkInstalled } from '../../lib/artifact/apk.js';
import { parseDpkgStatus } from '../../lib/artifact/dpkg.js';
import { flatpakPackage } from '../../lib/artifact/flatpak.js';
import { parsePacmanDesc } from '../../lib/artifact/pacman.js';
import { parsePlist } from '../../lib/artifact/plist.js';
import { portagePackage, splitPf } from '../../lib/artifact/portage.js';
import { slackwarePackage } from '../../lib/artifact/slackware.js';
import { parseSnapState, parseSnapYaml } from '../../lib/artifact/snap.js';
import { parseXbpsDatabase } from '../../lib/artifact/xbps.js';
import { itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';

const shared = itIf(hasSharedData(), noSharedData);
const text = (name: string) => readFileSync(sharedFile(name), 'utf8');

describe('dpkg', () => {
  itNeeds('dpkg-query')('lists this machine’s packages as dpkg-query does', () => {
    const format =
      '${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\t${Homepage}\\t${Installed-Size}\\t${binary:Summary}\\n';
    const want = run('dpkg-query', ['-W', '-f', format])
      .split('\n')
      .filter((l) => l.startsWith('installed\t'));
    const got = parseDpkgStatus(readFileSync('/var/lib/dpkg/status', 'utf8')).map((p) => {
      const version = `${p.epoch ? `${p.epoch}:` : ''}${p.version}${p.release === '' ? '' : `-${p.release}`}`;
      return [
        'installed',
        p.name,
        version,
        p.arch,
        p.sourcePackage ?? p.name,
        p.sourceVersion ?? version,
        p.url ?? '',
        p.installedSize === undefined ? '' : p.installedSize / 1024,
        p.summary ?? '',
      ].join('\t');
    });
    // dpkg keeps "0:" and an Installed-Size of 0 as they were written; neither means anything.
    const plain = (l: string) => l.replace(/\t0\t([^\t]*)$/, '\t\t$1');
    expect(got.map(plain).sort()).toEqual(want.map(plain).sort());
    expect(got.length).toBeGreaterThan(50);
  });
  shared('the shared status files hold what their stanzas say is installed', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'pkgdb' && x.tags?.includes('dpkg'))) {
      const parsed = parseDpkgStatus(text(e.name)).map((p) => p.name);
      // Stanzas without a name or a version are no packages.
      const nameless = new Set(['foo', 'acl', 'bar'].filter(() => e.name.endsWith('dpkg-noversion')));
      const want = (e.expected.installed as (string | null)[]).filter((n) => n !== null);
      expect([e.name, parsed.filter((n) => !nameless.has(n))]).toEqual([e.name, want.filter((n) => !nameless.has(n))]);
    }
  });
  shared('opkg: sizes are bytes, times are kept', () => {
    const [p] = parseDpkgStatus(text('pkgdb/dpkg/opkg-valid'), { format: 'opkg' });
    expect(p).toMatchObject({ format: 'opkg', name: 'ubus', version: '2024.10.20~252a9b0c', release: 'r1' });
    expect(p!.installedAt).toBe(1730715936);
  });
});

describe('apk', () => {
  shared('reads the shared database', () => {
    expect(parseApkInstalled(text('pkgdb/apk/single'))).toEqual([
      expect.objectContaining({
        format: 'apk',
        name: 'alpine-baselayout-data',
        version: '3.4.3',
        release: 'r1',
        arch: 'x86_64',
        sourcePackage: 'alpine-baselayout',
        license: 'GPL-2.0-only',
        url: 'https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout',
      }),
    ]);
    expect(parseApkInstalled(text('bad/pkgdb/apk/invalid'))).toEqual([]);
  });
  it('takes no file name for a field', () => {
    const list = parseApkInstalled('P:a\nV:1-r0\nF:usr\nR:x\nV:2-r9\n\nP:b\nV:2_p1-r3\nA:noarch\nI:4096\n');
    expect(list.map((p) => [p.name, p.version, p.release])).toEqual([
      ['a', '1', 'r0'],
      ['b', '2_p1', 'r3'],
    ]);
    expect(list[1]!.installedSize).toBe(4096);
  });
});

describe('pacman', () => {
  shared('reads the shared description', () => {
    expect(parsePacmanDesc(text('pkgdb/pacman/valid_no_dep'))).toEqual({
      format: 'pacman',
      name: 'libxml2',
      epoch: 0,
      version: '2.13.5',
      release: '1',
      arch: 'x86_64',
      sourcePackage: 'libxml2',
      summary: 'XML C parser and toolkit',
      publisher: 'Jan Alexander Steffens (heftig) <heftig@archlinux.org>',
      url: 'https://gitlab.gnome.org/GNOME/libxml2/-/wikis/home',
      license: 'MIT',
      installedSize: 4002425,
      installedAt: 1733011443,
    });
    expect(parsePacmanDesc(text('bad/pkgdb/pacman/invalid_value_eof'))).toBeUndefined();
  });
  it('joins several licences, keeping a choice together', () => {
    const desc = '%NAME%\nx\n\n%VERSION%\n1:2-3\n\n%LICENSE%\nMIT OR ISC\nZlib\n';
    expect(parsePacmanDesc(desc)).toMatchObject({ epoch: 1, version: '2', release: '3', license: '(MIT OR ISC) AND Zlib' });
  });
});

describe('portage', () => {
  it('splits names as the Package Manager Specification says', () => {
    for (const [pf, name, version, release] of [
      ['bash-5.2_p26-r6', 'bash', '5.2_p26', 'r6'],
      ['gtk+-2.24.33', 'gtk+', '2.24.33', ''],
      ['font-adobe-100dpi-1.0.4', 'font-adobe-100dpi', '1.0.4', ''],
      ['openssl-3.0.13b_beta2_rc-r1', 'openssl', '3.0.13b_beta2_rc', 'r1'],
      ['python-exec-conf-2.4.6', 'python-exec-conf', '2.4.6', ''],
    ] as const)
      expect(splitPf(pf)).toEqual({ name, version, release });
    expect(splitPf('Getopt-Long')).toBeUndefined();
  });
  it('takes its fields from small files', () => {
    const files: Record<string, string> = {
      SLOT: '0/3\n',
      DESCRIPTION: 'A shell\n',
      HOMEPAGE: 'https://a.example https://b',
      repository: 'gentoo\n',
      SIZE: '10\n',
      LICENSE: 'GPL-3+\n',
      CHOST: 'x86_64-pc-linux-gnu\n',
    };
    expect(portagePackage('app-shells', 'bash-5.2-r1', (f) => files[f])).toEqual({
      format: 'ebuild',
      name: 'app-shells/bash',
      epoch: 0,
      version: '5.2',
      release: 'r1',
      arch: 'x86_64',
      summary: 'A shell',
      url: 'https://a.example',
      license: 'GPL-3+',
      slot: '0/3',
      repository: 'gentoo',
      installedSize: 10,
    });
  });
});

describe('xbps', () => {
  const pkg = (name: string, state: string) =>
    `<key>${name}</key><dict><key>architecture</key><string>x86_64</string><key>automatic-install</key><true/>
     <key>install-date</key><string>2024-03-01 12:30 UTC</string><key>installed_size</key><integer>12345</integer>
     <key>pkgver</key><string>${name}-1.2.3_4</string><key>short_desc</key><string>R&amp;D &lt;tool&gt;&#33;</string>
     <key>run_depends</key><array><string>glibc&gt;=2.32_1</string></array><key>state</key><string>${state}</string></dict>`;
  it('reads installed packages and nothing else', () => {
    const text = `<?xml version="1.0"?><!DOCTYPE plist PUBLIC "x" "y"><!-- <key>no</key> --><plist version="1.0"><dict>
      <key>_XBPS_ALTERNATIVES_</key><dict/>${pkg('void-repo', 'installed')}${pkg('half', 'unpacked')}</dict></plist>`;
    expect(parseXbpsDatabase(text)).toEqual([
      {
        format: 'xbps',
        name: 'void-repo',
        epoch: 0,
        version: '1.2.3',
        release: '4',
        arch: 'x86_64',
        summary: 'R&D <tool>!',
        installedSize: 12345,
        installedAt: Date.UTC(2024, 2, 1, 12, 30) / 1000,
      },
    ]);
  });
  it('refuses lists that are cut off, crossed or too deep', () => {
    expect(() => parsePlist('<plist><dict><key>a</key>')).toThrow('without a value, or cut off');
    expect(() => parsePlist('<dict></array>')).toThrow('</array> at 0x6 closes nothing');
    expect(() => parsePlist('<array>'.repeat(100))).toThrow('deeper than 64');
  });
  it('takes time proportional to the text, whatever it holds', () => {
    for (const evil of ['<!--', '<a ', '<key>', '&#', '<string>&']) {
      const start = performance.now();
      try {
        parsePlist(evil.repeat(1 << 19));
      } catch {
        // an error is fine; a minute is not
      }
      expect(performance.now() - start).toBeLessThan(3000);
    }
  });
});

describe('others', () => {
  it('slackware: name, size and description', () => {
    const file = `PACKAGE NAME:     aaa_base-15.0-x86_64-4_slack15.0\nCOMPRESSED PACKAGE SIZE:     12K\nUNCOMPRESSED PACKAGE SIZE:     1.5M\nPACKAGE LOCATION: x\nPACKAGE DESCRIPTION:\naaa_base: aaa_base (Basic Linux filesystem)\naaa_base:\naaa_base: More text.\nFILE LIST:\n./\naaa_base: no\n`;
    expect(slackwarePackage('aaa_base-15.0-x86_64-4_slack15.0', file)).toEqual({
      format: 'slackware',
      name: 'aaa_base',
      epoch: 0,
      version: '15.0',
      release: '4_slack15.0',
      arch: 'x86_64',
      summary: 'Basic Linux filesystem',
      description: 'More text.',
      installedSize: 1572864,
    });
    expect(slackwarePackage('README', '')).toBeUndefined();
  });
  shared('snap: the shared descriptions', () => {
    expect(parseSnapYaml(text('pkgdb/snap/single-arch.yaml'))).toMatchObject({
      name: 'core',
      version: '16-2.61.4-20240607',
      arch: 'amd64',
    });
    expect(parseSnapYaml(text('pkgdb/snap/missing-version.yaml'))).toBeUndefined();
    expect(parseSnapYaml(text('bad/pkgdb/snap/invalid'))).toBeUndefined();
  });
  it('snap: the state file names the revision in use', () => {
    expect(parseSnapState('{"data":{"snaps":{"core22":{"current":"1380","sequence":[]},"x":null}}}')).toMatchObject([
      { name: 'core22', version: '1380' },
    ]);
    for (const bad of ['', '[]', 'null', '{"data":{"snaps":[]}}', '{"data":7}']) expect(parseSnapState(bad)).toEqual([]);
  });
  shared('flatpak: the newest release of the AppStream description', () => {
    const metadata = '[Application]\nname=org.gimp.GIMP\nruntime=org.gnome.Platform/x86_64/46\n';
    expect(flatpakPackage('org.gimp.GIMP', metadata, text('pkgdb/flatpak/valid.xml'))).toMatchObject({
      name: 'org.gimp.GIMP',
      version: '2.10.38',
      arch: 'x86_64',
      summary: 'Create images and edit photographs',
      publisher: 'The GIMP team',
    });
    expect(flatpakPackage('x', '', undefined)).toMatchObject({ name: 'x', version: '' });
  });
});
