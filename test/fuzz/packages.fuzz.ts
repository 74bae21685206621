import { parseApkInstalled } from '../../lib/artifact/apk.js';
import { parseDpkgStatus } from '../../lib/artifact/dpkg.js';
import { flatpakPackage } from '../../lib/artifact/flatpak.js';
import { parsePacmanDesc } from '../../lib/artifact/pacman.js';
import { portagePackage, splitPf } from '../../lib/artifact/portage.js';
import { slackwarePackage } from '../../lib/artifact/slackware.js';
import { parseSnapState, parseSnapYaml } from '../../lib/artifact/snap.js';
import { parseXbpsDatabase } from '../../lib/artifact/xbps.js';
import { GuestError } from '../../lib/core/errors.js';
import { SyslogReader } from '../../lib/ops/log/syslog.js';
import { debianCopyright, licenseOf } from '../../lib/ops/sbom/license.js';
import { numbers } from './bytes.js';

interface Target {
  readonly name: string;
  readonly seed: string;
  run(text: string): unknown;
}
const targets: readonly Target[] = [
  {
    name: 'dpkg',
    seed: 'Package: a\nStatus: install ok installed\nVersion: 1:2-3\nSource: b (4)\nInstalled-Size: 5\nDescription: s\n long\n .\n more\n\nPackage: c\n',
    run: (t) => parseDpkgStatus(t, { anyState: true }),
  },
  { name: 'apk', seed: 'P:a\nV:1-r0\nA:x86\nI:5\nL:MIT\n\nP:b\nV:2\nF:usr\nR:x\n\n', run: parseApkInstalled },
  { name: 'pacman', seed: '%NAME%\na\n\n%VERSION%\n1:2-3\n\n%LICENSE%\nMIT\nGPL OR x\n\n%SIZE%\n7\n', run: parsePacmanDesc },
  {
    name: 'portage',
    seed: 'sys-apps/portage-3.0.1_beta2_p5-r3',
    run: (t) => [splitPf(t), portagePackage('c', t, (f) => (f === 'PF' ? undefined : t))],
  },
  {
    name: 'xbps',
    seed: '<plist><dict><key>a</key><dict><key>pkgver</key><string>a-1_2</string><key>installed_size</key><integer>9</integer><key>x</key><array><string>&lt;&#33;</string><true/></array></dict></dict></plist>',
    run: parseXbpsDatabase,
  },
  {
    name: 'slackware',
    seed: 'UNCOMPRESSED PACKAGE SIZE: 1.5M\nPACKAGE DESCRIPTION:\na: a (text)\na: more\nFILE LIST:\n./\n',
    run: (t) => slackwarePackage('a-1-x86-2', t),
  },
  { name: 'snap', seed: 'name: core\nversion: "1"\narchitectures:\n- amd64\nsummary: x\n', run: (t) => parseSnapYaml(t) },
  { name: 'snap state', seed: '{"data":{"snaps":{"a":{"current":"1"},"b":{"current":2}}}}', run: parseSnapState },
  {
    name: 'flatpak',
    seed: '<component><name>x</name><release version="1" date="2"><summary>s</summary></release></component>\nruntime=a/b/c\n',
    run: (t) => flatpakPackage('id', t, t),
  },
  { name: 'licence', seed: '(GPL-2.0-or-later OR MIT) AND BSD-3-Clause WITH x', run: licenseOf },
  { name: 'copyright', seed: 'Format: x\n\nLicense: GPL-2+ or Artistic, and MIT\n text\nLicense: BSD\n', run: debianCopyright },
  {
    name: 'syslog',
    seed: '<13>Dec 31 23:59:59 host sshd[12]: text\n2024-01-01T00:00:00.5+01:00 host kernel: x\n\tmore\n',
    run: (t) => {
      const r = new SyslogReader('/log', new Date(0));
      return t.split('\n').map((l) => r.record(l).json());
    },
  },
];

/** Characters that mean something to one of them. */
const SPICE = [
  '\n',
  '\n\n',
  ':',
  '%',
  '<',
  '>',
  '</',
  '<!--',
  '&#',
  '(',
  ')',
  '-',
  '/',
  '{',
  '"',
  ' ',
  '\0',
  '\udc80',
  '\u00e9',
  '_',
  '[',
  '__proto__',
  '9'.repeat(30),
  ' OR ',
  'License: ',
];

/** Any text gives packages or a GuestError, soon. */
export function fuzz(iterations: number, seed: number): void {
  const random = numbers(seed);
  for (let i = 0; i < iterations; i++) {
    const target = targets[random(targets.length)]!;
    let text = target.seed;
    for (let k = 1 + random(6); k > 0; k--) {
      const at = random(text.length + 1);
      const what = random(5);
      const spice = SPICE[random(SPICE.length)]!;
      if (what === 0) text = text.slice(0, at) + text.slice(at + 1 + random(8));
      else if (what === 1) text = text.slice(0, at) + spice + text.slice(at);
      else if (what === 2) text = text.slice(0, at) + spice.repeat(random(2000)) + text.slice(at);
      else if (what === 3) text = text.slice(0, at) + text.slice(random(text.length + 1));
      else text = text.slice(0, at) + String.fromCharCode(random(0x180)) + text.slice(at + 1);
    }
    const start = performance.now();
    try {
      target.run(text);
    } catch (e) {
      if (!(e instanceof GuestError))
        throw new Error(`${target.name}: ${String(e)}: ${JSON.stringify(text).slice(0, 500)}`, { cause: e });
    }
    if (performance.now() - start > 2000)
      throw new Error(`${target.name} took ${performance.now() - start} ms: ${JSON.stringify(text).slice(0, 500)}`);
  }
}
