import { closeSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Option } from 'commander';
import { compareVersions, GuestError, type Tree, within } from '../lib/index.js';
import { GuestOptions } from './shared/guest.js';
import { json, out } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';

const CAPABILITIES = 'virt-get-kernel\nunversioned-names\n';

/** Names in a directory that match, newest version first, rescue and kdump images last of all. */
function newestFirst(tree: Tree, directory: string, pattern: RegExp): string[] {
  const version = (name: string) => name.replace(/^[^-]*-/, '');
  const special = (name: string) => (/rescue|kdump|-0-/.test(name) ? 1 : 0);
  return tree
    .names(directory)
    .filter((n) => pattern.test(n) && tree.isFile(`${directory}/${n}`))
    .sort((a, b) => special(a) - special(b) || compareVersions(version(b), version(a)));
}

/** The newest kernel and the initrd that belongs to it. */
function bootFiles(tree: Tree): readonly string[] {
  if (tree.isFile('/boot/kernel/kernel')) return ['/boot/kernel/kernel'];
  const kernels = newestFirst(tree, '/boot', /^(?:vmlinuz|vmlinux|bzImage|kernel)-/);
  const initrds = newestFirst(tree, '/boot', /^(?:initramfs-|initrd-|initrd\.img-|initrd$)/);
  const kernel = kernels[0];
  if (kernel === undefined) {
    const plain = ['/boot/vmlinuz', '/vmlinuz', '/boot/bzImage'].find((p) => tree.isFile(p));
    if (plain === undefined) throw new GuestError('not-found', 'no kernel was found in /boot of this guest');
    const initrd = ['/boot/initrd.img', '/initrd.img', '/boot/initrd'].find((p) => tree.isFile(p));
    return initrd === undefined ? [plain] : [plain, initrd];
  }
  const version = kernel.replace(/^[^-]*-/, '');
  const initrd = initrds.find((n) => n.includes(version)) ?? initrds[0];
  return initrd === undefined ? [`/boot/${kernel}`] : [`/boot/${kernel}`, `/boot/${initrd}`];
}

export const tool: Tool = {
  name: 'virt-get-kernel',
  summary: 'copy the kernel and initrd out of a guest',
  usage: ['virt-get-kernel [OPTIONS] -a DISK', 'virt-get-kernel [OPTIONS] -d DOMAIN'],
  examples: [
    ['into the current folder', 'virt-get-kernel -a disk.qcow2'],
    [
      'under names that do not change with each update',
      'virt-get-kernel -a disk.qcow2 -o /srv/boot --unversioned-names --prefix web1',
    ],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command);
    let folder = '.';
    let prefix: string | undefined;
    let unversioned = false;
    let quiet = false;
    let capabilities = false;
    command.addOption(
      new Option('-o, --output <dir>', 'folder to write to').argParser((v: string) => {
        folder = v;
        return v;
      }),
    );
    command.addOption(
      new Option('--prefix <prefix>', 'put PREFIX- before the names').argParser((v: string) => {
        prefix = v;
        return v;
      }),
    );
    command.addOption(
      new Option('--unversioned-names', 'leave the version out of the names').argParser(() => {
        unversioned = true;
        return true;
      }),
    );
    command.addOption(
      new Option('-q, --quiet', 'do not print what is copied').argParser(() => {
        quiet = true;
        return true;
      }),
    );
    command.addOption(
      new Option('--machine-readable [where]', 'alone: list capabilities').argParser((v: string) => {
        capabilities = v === '';
        return v;
      }),
    );
    for (const name of ['--colors', '--colours', '--wrap', '--debug-gc']) command.addOption(new Option(name).hideHelp());
    jsonOption(command);
    return async (args) => {
      if (capabilities && !guest.given) {
        out.write(CAPABILITIES);
        return 0;
      }
      if (args.length > 0) throw new GuestError('usage', `extra argument "${args[0]}"`);
      if (!within({ path: folder }, () => statSync(folder)).isDirectory())
        throw new GuestError('not-a-directory', 'is not a folder', { path: folder });
      const { tree } = await guest.openTree();
      const copied = bootFiles(tree).map((from) => {
        const name = unversioned ? basename(from).replace(/-.*$/, '') : basename(from);
        const to = join(folder, prefix === undefined ? name : `${prefix}-${name}`);
        if (!quiet && !common.json) out.line(`download: ${from} -> ${to}`);
        out.flush();
        download(tree, from, to);
        return { from, to };
      });
      if (common.json) out.line(json(copied));
      return 0;
    };
  },
};

/** Under a temporary name until it is whole. */
function download(tree: Tree, from: string, to: string): void {
  const { node } = tree.get(from);
  const partial = `${to}.${process.pid}.part`;
  within({ path: to }, () => {
    const fd = openSync(partial, 'wx', 0o644);
    try {
      const buffer = new Uint8Array(1 << 20);
      for (let at = 0, n: number; (n = node.read(buffer, at)) > 0; at += n)
        for (let done = 0; done < n; ) done += writeSync(fd, buffer, done, n - done);
      closeSync(fd);
      renameSync(partial, to);
    } catch (e) {
      rmSync(partial, { force: true });
      throw e;
    }
  });
}
