import { existsSync } from 'node:fs';
import { CopyOut, GuestError } from '../lib/index.js';
import { GuestOptions, legacyDisk } from './shared/guest.js';
import { untilInterrupted } from './shared/interrupt.js';
import { warn } from './shared/output.js';
import { ProgressBar } from './shared/progress.js';
import type { Tool } from './shared/tool.js';

export const tool: Tool = {
  name: 'virt-copy-out',
  summary: 'copy files and directories of a guest to the host',
  usage: [
    'virt-copy-out [OPTIONS] -a DISK [-a DISK …] /FILE|DIR… LOCALDIR',
    'virt-copy-out [OPTIONS] -d DOMAIN /FILE|DIR… LOCALDIR',
  ],
  examples: [
    ['a home directory', 'virt-copy-out -a disk.qcow2 /home/alice .'],
    ['logs and configuration', 'virt-copy-out -a disk.qcow2 /var/log /etc /tmp/evidence'],
  ],
  notes: [
    'As root, owners and device nodes are kept; holes, hard links, times, modes and extended attributes always, where the host allows.',
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    return async (given) => {
      const args = legacyDisk(guest, given, existsSync);
      const folder = args[args.length - 1];
      if (folder === undefined || args.length < 2)
        throw new GuestError('usage', 'wanted: files or directories of the guest, then a folder of this host');
      const { tree } = await guest.openTree();
      for (const p of args.slice(0, -1)) tree.get(p, { follow: false });
      const bar = new ProgressBar('virt-copy-out');
      const copy = new CopyOut(tree, { progress: (n) => bar.report(n, total) });
      const total = args.slice(0, -1).reduce((n, p) => {
        const u = tree.get(p, { follow: false }).fs.usage();
        return n + (u.blocks - u.free) * u.blockSize;
      }, 0);
      try {
        for (const p of args.slice(0, -1)) await untilInterrupted(copy.run(p, folder), () => {});
      } finally {
        bar.end();
      }
      for (const w of copy.warnings) warn(`virt-copy-out: warning: ${w}`);
      return 0;
    };
  },
};
