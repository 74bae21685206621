import { existsSync } from 'node:fs';
import { GuestError } from '../lib/index.js';
import { GuestOptions, legacyDisk } from './shared/guest.js';
import { out } from './shared/output.js';
import type { Tool } from './shared/tool.js';

export const tool: Tool = {
  name: 'virt-cat',
  summary: 'print files of a guest',
  usage: ['virt-cat [OPTIONS] -a DISK [-a DISK …] FILE…', 'virt-cat [OPTIONS] -d DOMAIN FILE…'],
  examples: [
    ['the guest’s fstab', 'virt-cat -a disk.qcow2 /etc/fstab'],
    ['a file of a remote image, without downloading it', 'virt-cat -a https://host/disk.qcow2 /etc/os-release'],
    ['a file on one filesystem, without inspection', 'virt-cat -a disk.img -m /dev/sda1 /boot.txt'],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    return async (given) => {
      const files = legacyDisk(guest, given, existsSync);
      if (files.length === 0) throw new GuestError('usage', 'no file to print: name one or more after the options');
      const { tree } = await guest.openTree();
      const buffer = new Uint8Array(1 << 20);
      for (const path of files) {
        const { node } = tree.get(path);
        if (node.kind === 'directory') throw new GuestError('is-a-directory', 'is a directory', { path });
        if (node.kind !== 'file') throw new GuestError('unsupported', `is a ${node.kind} node, not a regular file`, { path });
        for (let at = 0, n: number; (n = node.read(buffer, at)) > 0; at += n) {
          out.write(buffer.slice(0, n));
        }
      }
      return 0;
    };
  },
};
