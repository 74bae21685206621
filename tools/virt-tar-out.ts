import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import { Option } from 'commander';
import { GuestError, packTree, within } from '../lib/index.js';
import { GuestOptions, legacyDisk } from './shared/guest.js';
import { untilInterrupted } from './shared/interrupt.js';
import { writeAll } from './shared/output.js';
import { ProgressBar } from './shared/progress.js';
import type { Tool } from './shared/tool.js';

export const tool: Tool = {
  name: 'virt-tar-out',
  summary: 'pack a directory of a guest into a tar archive',
  usage: ['virt-tar-out [OPTIONS] -a DISK [-a DISK …] /DIR FILE.tar', 'virt-tar-out [OPTIONS] -a DISK /DIR - | …'],
  examples: [
    ['home directories', 'virt-tar-out -a disk.qcow2 /home home.tar'],
    ['compressed', 'virt-tar-out -a disk.qcow2 / - | zstd > root.tar.zst'],
  ],
  notes: ['The archive is POSIX pax: extended attributes, ACLs, SELinux labels, nanoseconds, hard links and holes are kept.'],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    let attributes = true;
    let sparse = true;
    const excludes: RegExp[] = [];
    command.addOption(
      new Option('--no-xattrs', 'leave out extended attributes, ACLs and SELinux labels').argParser(() => {
        attributes = false;
        return false;
      }),
    );
    command.addOption(
      new Option('--no-sparse', 'store holes as zeroes').argParser(() => {
        sparse = false;
        return false;
      }),
    );
    command.addOption(
      new Option('--exclude <pattern>', 'leave out paths that match this shell pattern').argParser((v: string) => {
        excludes.push(globPattern(v));
        return v;
      }),
    );
    return async (given) => {
      const args = legacyDisk(guest, given, existsSync);
      const [directory, target] = args;
      if (directory === undefined || target === undefined || args.length > 2)
        throw new GuestError('usage', 'wanted: a directory of the guest and an archive (or -)');
      const { tree } = await guest.openTree();
      const place = tree.get(directory);
      if (place.node.kind !== 'directory') throw new GuestError('not-a-directory', 'not a directory', { path: directory });
      const usage = place.fs.usage();
      const total = (usage.blocks - usage.free) * usage.blockSize;
      const bar = new ProgressBar('virt-tar-out', target === '-' ? process.stderr.isTTY && !process.stdout.isTTY : undefined);
      const partial = `${target}.${process.pid}.part`;
      const fd = target === '-' ? 1 : within({ path: partial }, () => openSync(partial, 'wx', 0o644));
      try {
        let written = 0;
        await untilInterrupted(
          packTree(tree, directory, {
            attributes,
            sparseFrom: sparse ? 65536 : 0,
            ...(excludes.length === 0 ? {} : { exclude: (p: string) => excludes.some((x) => x.test(p) || x.test(p.slice(2))) }),
          }),
          (piece) => {
            within({ path: target }, () => writeAll(fd, piece));
            written += piece.length;
            bar.report(written, total);
          },
        );
        bar.end();
        if (fd !== 1) {
          closeSync(fd);
          renameSync(partial, target);
        }
      } catch (e) {
        bar.end();
        if (fd !== 1) rmSync(partial, { force: true });
        throw e;
      }
      return 0;
    };
  },
};

/** A shell pattern as tar --exclude has it: "*" matches slashes too; anchored nowhere but at path components. */
function globPattern(glob: string): RegExp {
  let s = '';
  for (let i = 0; i < glob.length; i++) {
    const c = glob[i]!;
    if (c === '*') s += '.*';
    else if (c === '?') s += '.';
    else if (c === '[') {
      const end = glob.indexOf(']', i + 2);
      if (end < 0) s += '\\[';
      else {
        s += `[${glob
          .slice(i + 1, end)
          .replace(/^!/, '^')
          .replaceAll('\\', '\\\\')}]`;
        i = end;
      }
    } else s += c.replace(/[.+^${}()|\\\]]/g, '\\$&');
  }
  return new RegExp(`(?:^|/)${s}$`);
}
