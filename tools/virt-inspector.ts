import { existsSync } from 'node:fs';
import { Option } from 'commander';
import {
  applications,
  GuestError,
  type GuestOs,
  guestDetails,
  guestIcon,
  guestTree,
  inspect,
  type Package,
  type Storage,
} from '../lib/index.js';
import { GuestOptions, legacyDisk } from './shared/guest.js';
import { json, out } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';
import { type Element, el, xml } from './shared/xml.js';

/** libguestfs cuts a Debian version at its first dash; policy (and the rest of this program) at its last. */
function firstDash(p: Package): { version: string; release: string } {
  if (p.format !== 'deb' || p.release === '') return p;
  const all = `${p.version}-${p.release}`;
  const dash = all.indexOf('-');
  return { version: all.slice(0, dash), release: all.slice(dash + 1) };
}

/** As libguestfs orders it: an epoch of 0 and empty fields are left out. */
function application(p: Package): Element {
  const { version, release } = firstDash(p);
  return {
    tag: 'application',
    children: [
      el('name', p.name),
      p.epoch === 0 ? undefined : el('epoch', String(p.epoch)),
      version === '' ? undefined : el('version', version),
      release === '' ? undefined : el('release', release),
      p.arch === '' ? undefined : el('arch', p.arch),
      // For rpm, the vendor; a Debian maintainer is no publisher.
      p.format === 'rpm' ? el('publisher', p.publisher) : undefined,
      el('url', p.url),
      el('source_package', p.sourcePackage),
      el('summary', p.summary),
      // dpkg's own mark for an empty line, as it has always been here.
      el('description', p.format === 'deb' ? p.description?.replace(/^$/gm, '.') : p.description),
    ],
  };
}

function describe(
  os: GuestOs,
  storage: Storage,
  packages: readonly Package[] | undefined,
  icon: Uint8Array | undefined,
): Element {
  return {
    tag: 'operatingsystem',
    children: [
      el('root', os.root),
      el('name', os.type),
      el('arch', os.arch),
      el('distro', os.distro),
      el('product_name', os.productName),
      el('product_variant', os.productVariant),
      el('major_version', String(os.major)),
      el('minor_version', String(os.minor)),
      el('package_format', os.packageFormat),
      el('package_management', os.packageManagement),
      el('hostname', os.hostname),
      el('build_id', os.buildId),
      el('osinfo', os.osinfo),
      { tag: 'mountpoints', children: os.mountpoints.map((m) => el('mountpoint', m.path, { dev: m.device })) },
      {
        tag: 'filesystems',
        children: os.filesystems.map((device) => {
          const s = storage.find(device)?.signature;
          return {
            tag: 'filesystem',
            attributes: { dev: device },
            children: [el('type', s?.type), el('label', s?.label), el('uuid', s?.uuid)],
          };
        }),
      },
      packages === undefined || packages.length === 0 ? undefined : { tag: 'applications', children: packages.map(application) },
      // Lines of 72 characters, ended as MIME ends them: so this has always been written.
      icon === undefined
        ? undefined
        : {
            tag: 'icon',
            raw: (
              Buffer.from(icon)
                .toString('base64')
                .match(/.{1,72}/g) ?? []
            ).join('\r\n'),
          },
    ],
  };
}

export const tool: Tool = {
  name: 'virt-inspector',
  summary: 'describe the operating systems of a guest as XML',
  usage: ['virt-inspector [OPTIONS] -a DISK [-a DISK …]', 'virt-inspector [OPTIONS] -d DOMAIN'],
  examples: [
    ['what is in this image?', 'virt-inspector -a disk.qcow2'],
    ['one value', "virt-inspector --no-applications -a disk.qcow2 | virt-inspector --xpath 'string(//hostname)'"],
    ['for a program', 'virt-inspector --json -a disk.qcow2'],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command);
    let withApplications = true;
    let withIcon = true;
    let query: string | undefined;
    command.addOption(
      new Option('--no-applications', 'leave out the list of applications').argParser(() => {
        withApplications = false;
        return false;
      }),
    );
    command.addOption(
      new Option('--no-icon', 'leave out the icon').argParser(() => {
        withIcon = false;
        return false;
      }),
    );
    command.addOption(
      new Option('--xpath <query>', 'evaluate an XPath query over XML from standard input').argParser((v: string) => {
        query = v;
        return v;
      }),
    );
    jsonOption(command);
    return async (given) => {
      if (query !== undefined) return (await import('./shared/xpath.js')).printXPath(query);
      legacyDisk(guest, given, existsSync);
      const storage = await guest.open();
      const found = inspect(storage);
      if (found.length === 0) throw new GuestError('not-found', 'no operating system was found on this disk');
      const trees = found.map((os) => guestTree(storage, os));
      const packages = found.map((os, i) => (withApplications ? applications(os, trees[i]!) : undefined));
      if (common.json) {
        out.line(
          json(
            found.map((os, i) => ({
              ...os,
              filesystems: os.filesystems.map((device) => ({ device, ...storage.find(device)?.signature })),
              ...guestDetails(os, trees[i]!),
              ...(packages[i] === undefined ? {} : { applications: packages[i] }),
            })),
          ),
        );
        return 0;
      }
      out.write(
        xml({
          tag: 'operatingsystems',
          children: found.map((os, i) => describe(os, storage, packages[i], withIcon ? guestIcon(os, trees[i]!) : undefined)),
        }),
      );
      return 0;
    };
  },
};
