import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { RelaxNGValidator, XmlDocument } from 'libxml2-wasm';
import { describe, expect, it } from 'vitest';
import { debianFile } from '../helpers/debian.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { tool } from '../helpers/tool.js';

const guests = sharedEntries().filter((x) => x.kind === 'guest' && !x.bad && !/win|btrfs|debcrypt|blank/.test(x.name));
const schema = hasSharedData() ? debianFile('guestfs-tools', 'usr/share/doc/guestfs-tools/virt-inspector.rng.gz') : undefined;

interface Application {
  readonly name: string;
  readonly epoch?: string;
  readonly version?: string;
  readonly release?: string;
  readonly arch?: string;
  readonly summary?: string;
}

describe('virt-inspector', () => {
  for (const e of guests) {
    itIf(
      schema !== undefined,
      hasSharedData() ? 'the Debian package guestfs-tools cannot be fetched for its schema' : noSharedData,
    )(`${e.name} validates against the published RELAX NG schema`, () => {
      const xml = tool('virt-inspector', ['-a', sharedFile(e.name)]);
      expect(xml.stderr).toBe('');
      const validator = RelaxNGValidator.fromDoc(XmlDocument.fromBuffer(gunzipSync(readFileSync(schema!))));
      // The schema of 1.48 is older than the build_id element that libguestfs itself writes today.
      const doc = XmlDocument.fromString(xml.stdout.replace(/ *<build_id>.*<\/build_id>\n/, ''));
      validator.validate(doc);
      doc.dispose();
      validator.dispose();
    });
    const want = (e.expected.upstream?.operatingsystems ?? e.expected.virt_inspector?.operatingsystems)?.[0] as
      | { applications_count?: number; applications_sample?: readonly Application[] }
      | undefined;
    if (want?.applications_count === undefined) continue;
    itIf(hasSharedData(), noSharedData)(`${e.name}: applications as libguestfs lists them`, () => {
      const doc = XmlDocument.fromString(tool('virt-inspector', ['-a', sharedFile(e.name)]).stdout);
      const text = (name: string, child: string) => doc.eval(`string(//application[name='${name}'][1]/${child})`);
      expect(doc.eval('count(//application)')).toBe(want.applications_count);
      for (const a of want.applications_sample ?? []) {
        const got = Object.fromEntries(Object.keys(a).map((k) => [k, text(a.name, k)]));
        expect(got).toEqual(a);
      }
      doc.dispose();
    });
  }
  itIf(hasSharedData(), noSharedData)('--xpath evaluates a query over standard input', () => {
    const xml = tool('virt-inspector', ['--no-applications', '-a', sharedFile('guest/deb12.img.zst')]).stdout;
    expect(tool('virt-inspector', ['--xpath', 'string(//hostname)'], { input: xml })).toMatchObject({
      stdout: 'bookworm-essential\n',
      status: 0,
    });
    expect(tool('virt-inspector', ['--xpath', '//mountpoint'], { input: xml }).stdout).toBe(
      '<mountpoint dev="/dev/sda1">/</mountpoint>\n',
    );
    expect(tool('virt-inspector', ['--xpath', '//['], { input: xml })).toMatchObject({ status: 1 });
    expect(tool('virt-inspector', ['--xpath', '/x'], { input: 'no xml' }).stderr).toMatch(/standard input is no XML/);
  });
  it('names a disk without a system and exits with 1', () => {
    const r = tool('virt-inspector', ['-a', '/etc/hostname']);
    expect(r).toMatchObject({ status: 1, stdout: '' });
  });
});
