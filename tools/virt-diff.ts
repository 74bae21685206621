import { Option } from 'commander';
import { type Difference, diffTrees, GuestError, type Node, readNode, type Side } from '../lib/index.js';
import { GuestOptions } from './shared/guest.js';
import { untilInterrupted } from './shared/interrupt.js';
import { csvRow, json, out } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';
import { VisitOptions } from './shared/visit.js';

/** Files up to this size are compared line by line. */
const TEXT_BYTES = 1 << 20;

/** The file as text, when it looks like text: valid UTF-8 without NUL bytes. */
function textOf(node: Node, path: string): string | undefined {
  if (node.kind !== 'file' || node.stat().size > TEXT_BYTES) return undefined;
  const bytes = readNode(node, path, TEXT_BYTES);
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

export const tool: Tool = {
  name: 'virt-diff',
  summary: 'list the differences between the files of two guests or images',
  usage: ['virt-diff [OPTIONS] -a DISK1 [-a …] -A DISK2 [-A …]', 'virt-diff [OPTIONS] -d DOMAIN1 -D DOMAIN2'],
  examples: [
    ['what changed since the snapshot?', 'virt-diff -a base.qcow2 -A overlay.qcow2'],
    ['with owners, for a program', 'virt-diff --uids --json -a before.img -A after.img'],
  ],
  notes: ['-m holds for both guests. Extents that both images share (a common backing file) are not read: they cannot differ.'],
  setup(command) {
    const first = new GuestOptions();
    const second = new GuestOptions();
    first.addOptions(command, { mount: true });
    const visit = new VisitOptions().addOptions(command);
    visit.atime = false;
    let all = false;
    let atime = false;
    let directoryLinks = false;
    let directoryTimes = false;
    let xattrs = false;
    const flag = (names: string, help: string, then: () => void) =>
      command.addOption(
        new Option(names, help).argParser(() => {
          then();
          return true;
        }),
      );
    command.addOption(
      new Option('-A <file|uri>', 'a disk of the second guest').argParser((v: string) => {
        second.addDisk(v, first);
        return v;
      }),
    );
    command.addOption(
      new Option('-D <name|uuid>', 'the disks of a second libvirt domain').argParser((v: string) => {
        second.domains.push(v);
        return v;
      }),
    );
    flag('--all', 'as --extra-stats --times --uids --xattrs', () => {
      all = true;
    });
    flag('--atime', 'report changed access times', () => {
      atime = true;
      visit.atime = true;
    });
    flag('--dir-links', 'report changed link counts of directories', () => {
      directoryLinks = true;
    });
    flag('--dir-times', 'report changed times of directories', () => {
      directoryTimes = true;
    });
    flag('--xattrs', 'compare and show extended attributes', () => {
      xattrs = true;
    });
    jsonOption(command);
    return async (args) => {
      if (args.length > 0) throw new GuestError('usage', `extra argument "${args[0]}": the guests are named with -a and -A`);
      if (all) {
        visit.extraStats = true;
        visit.times = true;
        visit.uids = true;
        xattrs = true;
      }
      if (!first.given) throw new GuestError('usage', 'no first guest: name it with -a or -d');
      if (!second.given) throw new GuestError('usage', 'no second guest: name it with -A or -D');
      second.connect = first.connect;
      second.mounts.push(...first.mounts);
      const before = await first.openTree();
      const after = await second.openTree();
      const { createTwoFilesPatch } = await import('diff');
      const unified = (p: Side, q: Side, path: string): string | undefined => {
        const a = textOf(p.node, path);
        const b = textOf(q.node, path);
        if (a === undefined || b === undefined) return undefined;
        const patch = createTwoFilesPatch(path, path, a, b, undefined, undefined, { context: 3, timeout: 2000 });
        // From the first hunk on (the file's name is in the line above already); a count of 1 is left out, as diff does.
        const start = patch?.search(/^@@ /m) ?? -1;
        if (patch === undefined || start < 0) return undefined;
        return patch
          .slice(start)
          .replace(/^(@@ -[0-9]+),1 /gm, '$1 ')
          .replace(/^(@@ .*\+[0-9]+),1 @@/gm, '$1 @@');
      };
      const found: unknown[] = [];
      const show = (d: Difference | undefined) => {
        if (d === undefined) return;
        if (common.json) found.push(jsonOf(d, unified));
        else print(d, visit, xattrs, unified);
      };
      await untilInterrupted(
        diffTrees(before.tree, after.tree, {
          contents: visit.checksum !== undefined,
          atime,
          directoryLinks,
          directoryTimes,
          uids: visit.uids,
          extraStats: visit.extraStats,
          xattrs,
        }),
        show,
      );
      if (common.json) out.line(json(found));
      return 0;
    };
  },
};

type Unified = (p: Side, q: Side, path: string) => string | undefined;

function print(d: Difference, visit: VisitOptions, xattrs: boolean, unified: Unified): void {
  // Of a changed file, what it was.
  const side = d.kind === 'changed' ? d.before : d.side;
  const sign = d.kind === 'removed' ? '-' : d.kind === 'added' ? '+' : '=';
  const fields = [sign, ...visit.fields(side.node, side.stat, d.path)];
  out.line(visit.csv ? csvRow(fields) : fields.join(' '));
  if (xattrs && !visit.csv)
    for (const [name, value] of side.node.attributes()) out.line(`#   ${name}=0x${Buffer.from(value).toString('hex')}`);
  if (d.kind !== 'changed' || visit.csv) return;
  if (d.before.node.kind === 'file' && d.after.node.kind === 'file') {
    const text = d.contents ? unified(d.before, d.after, d.path) : undefined;
    if (text !== undefined && text !== '') out.write(text.endsWith('\n') ? text : `${text}\n`);
    out.line('@@ End of diff @@');
  }
  const link = d.fields.includes('link') ? [`# link: ${d.before.node.target()} -> ${d.after.node.target()}`] : [];
  for (const l of [...link, `# changed: ${d.fields.join(' ')}`]) out.line(l);
}

function jsonOf(d: Difference, unified: Unified): unknown {
  const describe = (s: Side) => ({
    type: s.node.kind,
    ...s.stat,
    ...(s.node.kind === 'symlink' ? { target: s.node.target() } : {}),
  });
  if (d.kind !== 'changed') return { change: d.kind, path: d.path, file: describe(d.side) };
  const text = d.contents ? unified(d.before, d.after, d.path) : undefined;
  return {
    change: d.kind,
    path: d.path,
    fields: d.fields,
    before: describe(d.before),
    after: describe(d.after),
    ...(text === undefined ? {} : { diff: text }),
  };
}
