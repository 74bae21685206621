import { Option } from 'commander';
import { explain, GuestError, type Tree } from '../lib/index.js';
import { GuestOptions } from './shared/guest.js';
import { out, warn } from './shared/output.js';
import type { Tool } from './shared/tool.js';

/** What is known of a followed file: where we are in it, and the inode by which a rotation shows. */
interface Followed {
  readonly path: string;
  ino?: bigint;
  offset: number;
}

/** Start of the last `lines` lines of a file that `read` gives. */
function startOfLastLines(node: { read(into: Uint8Array, offset: number): number }, size: number, lines: number): number {
  const chunk = new Uint8Array(65536);
  let left = lines + 1;
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - chunk.length);
    const n = node.read(chunk.subarray(0, end - start), start);
    for (let i = n - 1; i >= 0; i--) if (chunk[i] === 10 && start + i !== size - 1 && --left <= 1) return start + i + 1;
    end = start;
  }
  return 0;
}

export const tool: Tool = {
  name: 'virt-tail',
  summary: 'follow text files of a guest',
  usage: ['virt-tail [OPTIONS] -a DISK [-a DISK …] FILE…', 'virt-tail [OPTIONS] -d DOMAIN FILE…'],
  examples: [
    ['the guest’s messages as they come', 'virt-tail -d guest /var/log/messages'],
    ['the last 50 lines, once', 'virt-tail --no-follow -n 50 -a disk.qcow2 /var/log/syslog'],
  ],
  notes: ['The disk is looked at again every --interval seconds (30); rotated and shortened files are noticed.'],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { mount: true });
    let lines = 10;
    let interval = 30;
    let follow = true;
    command.addOption(new Option('-f, --follow', 'follow (always; accepted for compatibility)').argParser(() => true));
    command.addOption(
      new Option('--no-follow', 'print the last lines and stop').argParser(() => {
        follow = false;
        return false;
      }),
    );
    command.addOption(
      new Option('-n, --lines <n>', 'lines shown at first (10)').argParser((v: string) => {
        lines = number('--lines', v, 0);
        return lines;
      }),
    );
    command.addOption(
      new Option('--interval <seconds>', 'seconds between looks (30)').argParser((v: string) => {
        interval = number('--interval', v, 1);
        return interval;
      }),
    );
    return async (files) => {
      if (files.length === 0) throw new GuestError('usage', 'no file to follow: name one or more after the options');
      const followed: Followed[] = files.map((path) => ({ path, offset: -1 }));
      let shown: string | undefined;
      for (let round = 0; ; round++) {
        const { tree, storage } = await guest.openTree();
        for (const f of followed) {
          try {
            const text = news(tree, f, lines);
            if (text.length === 0) continue;
            if (files.length > 1 && shown !== f.path) {
              out.write(`${shown === undefined ? '' : '\n'}==> ${f.path} <==\n`);
              shown = f.path;
            }
            for (const part of text) out.write(part);
          } catch (e) {
            if (!(e instanceof GuestError) || round === 0) throw e;
            warn(`virt-tail: ${explain(e)}`);
          }
        }
        storage.close();
        out.flush();
        if (!follow) return 0;
        await new Promise((done) => setTimeout(done, interval * 1000));
      }
    };
  },
};

/** What was added since the last look; everything of a file that was replaced or cut. */
function news(tree: Tree, f: Followed, lines: number): Uint8Array[] {
  const { node } = tree.get(f.path);
  if (node.kind !== 'file') throw new GuestError('unsupported', `is a ${node.kind} node, not a regular file`, { path: f.path });
  const size = node.stat().size;
  if (f.offset < 0) f.offset = startOfLastLines(node, size, lines);
  else if (f.ino !== node.ino || size < f.offset) f.offset = 0;
  f.ino = node.ino;
  const parts: Uint8Array[] = [];
  const buffer = new Uint8Array(1 << 20);
  for (let n: number; (n = node.read(buffer, f.offset)) > 0; f.offset += n) parts.push(buffer.slice(0, n));
  return parts;
}

function number(option: string, v: string, least: number): number {
  const n = Number(v);
  if (!Number.isInteger(n) || n < least) throw new GuestError('usage', `${option}: "${v}" is not a number from ${least} up`);
  return n;
}
