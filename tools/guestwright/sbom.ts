import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Option } from 'commander';
import { billSystem, cycloneDx, GuestError, guestTree, inspect, spdx, within } from '../../lib/index.js';
import { GuestOptions, legacyDisk } from '../shared/guest.js';
import { out, warn } from '../shared/output.js';
import { type Tool, version } from '../shared/tool.js';

const FORMATS = { cyclonedx: cycloneDx, spdx } as const;
type Format = keyof typeof FORMATS;

/** SOURCE_DATE_EPOCH where it is set (reproducible-builds.org), else now. */
function created(): Date {
  const epoch = process.env['SOURCE_DATE_EPOCH'];
  if (epoch === undefined || epoch === '') return new Date();
  const d = new Date(Number(epoch) * 1000);
  if (!/^\d+$/.test(epoch) || Number.isNaN(d.getTime()) || d.getUTCFullYear() > 9999)
    throw new GuestError('usage', `SOURCE_DATE_EPOCH: "${epoch}" is not a number of seconds`);
  return d;
}

/** The target is as it was, or whole: never half written. */
function writeWhole(path: string, text: string): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  within({ path }, () => {
    try {
      writeFileSync(temporary, text, { flag: 'wx' });
      renameSync(temporary, path);
    } catch (e) {
      rmSync(temporary, { force: true });
      throw e;
    }
  });
}

export const tool: Tool = {
  name: 'guestwright sbom',
  summary: 'write a bill of materials of a guest’s packages',
  usage: ['guestwright sbom [OPTIONS] DISK…', 'guestwright sbom [OPTIONS] -a DISK | -d DOMAIN'],
  examples: [
    ['CycloneDX 1.6, to look for known vulnerabilities', 'guestwright sbom -o guest.cdx.json disk.qcow2'],
    ['SPDX 2.3', 'guestwright sbom --format spdx disk.qcow2'],
  ],
  notes: [
    'With SOURCE_DATE_EPOCH set, the same guest gives the same bytes.  Here --format is the document’s; the image’s is --image-format.',
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { formatOption: '--image-format' });
    let format: Format = 'cyclonedx';
    let target: string | undefined;
    let serial: string | undefined;
    let title: string | undefined;
    command.addOption(
      new Option('--format <format>', 'cyclonedx (1.6, the default) or spdx (2.3)').argParser((v: string) => {
        if (!Object.hasOwn(FORMATS, v)) throw new GuestError('usage', `--format: "${v}" is not cyclonedx or spdx`);
        format = v as Format;
        return v;
      }),
    );
    command.addOption(new Option('-o, --output <file>', 'write to this file').argParser((v: string) => (target = v)));
    command.addOption(new Option('--name <name>', 'name of the guest in the document').argParser((v: string) => (title = v)));
    command.addOption(
      new Option('--serial <uri>', 'serial number (urn:uuid:…) or SPDX namespace; made from the contents').argParser(
        (v: string) => (serial = v),
      ),
    );
    return async (given) => {
      const more = legacyDisk(guest, given, existsSync);
      for (const disk of more) guest.addDisk(disk);
      if (serial !== undefined) checkSerial(serial, format);
      const storage = await guest.open();
      const found = inspect(storage);
      if (found.length === 0) throw new GuestError('not-found', 'no operating system was found on this disk');
      const problems: string[] = [];
      const systems = found.map((os) => billSystem(os, guestTree(storage, os), problems));
      for (const p of new Set(problems)) warn(`guestwright sbom: warning: ${p}`);
      const name = title ?? guest.domains[0] ?? basename(guest.disks[0]!.path);
      const document = FORMATS[format]({ name, systems }, { created: created(), toolVersion: version(), serial });
      const text = `${JSON.stringify(document, null, 2)}\n`;
      if (target === undefined || target === '-') out.write(text);
      else writeWhole(target, text);
      return 0;
    };
  },
};

function checkSerial(serial: string, format: Format): void {
  const uuid = /^urn:uuid:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;
  if (format === 'cyclonedx' && !uuid.test(serial))
    throw new GuestError('usage', `--serial: "${serial}" is not of the form urn:uuid:…`);
  if (format === 'spdx' && (!/^[a-z][a-z0-9+.-]*:[^\s#]+$/i.test(serial) || !URL.canParse(serial)))
    throw new GuestError('usage', `--serial: "${serial}" is not an absolute URI without "#"`);
}
