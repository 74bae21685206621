import { out, warn } from './shared/output.js';
import { commandOf, runTool, type Tool, version } from './shared/tool.js';

/** Every command, by the name it has on PATH; loaded when it is used. */
export const commands: Readonly<Record<string, () => Promise<{ readonly tool: Tool }>>> = {
  'virt-alignment-scan': () => import('./virt-alignment-scan.js'),
  'virt-cat': () => import('./virt-cat.js'),
  'virt-copy-out': () => import('./virt-copy-out.js'),
  'virt-df': () => import('./virt-df.js'),
  'virt-diff': () => import('./virt-diff.js'),
  'virt-filesystems': () => import('./virt-filesystems.js'),
  'virt-get-kernel': () => import('./virt-get-kernel.js'),
  'virt-img': () => import('./virt-img.js'),
  'virt-inspector': () => import('./virt-inspector.js'),
  'virt-log': () => import('./virt-log.js'),
  'virt-ls': () => import('./virt-ls.js'),
  'virt-tail': () => import('./virt-tail.js'),
  'virt-tar-out': () => import('./virt-tar-out.js'),
};

/** What only the umbrella has. */
export const own: Readonly<Record<string, () => Promise<{ readonly tool: Tool }>>> = {
  completion: () => import('./guestwright/completion.js'),
  doctor: () => import('./guestwright/doctor.js'),
  nbd: () => import('./guestwright/nbd.js'),
  sbom: () => import('./guestwright/sbom.js'),
  stack: () => import('./guestwright/stack.js'),
};

const find = (name: string) => own[name] ?? commands[name] ?? commands[`virt-${name}`];

async function help(): Promise<string> {
  const lines = [
    'guestwright: see into disk images and the guests on them',
    '',
    'Usage:',
    '  guestwright COMMAND [ARGUMENTS]   (or the command under its own name)',
    '',
    'Commands:',
  ];
  const rows: [string, string][] = [];
  for (const [name, load] of Object.entries(own)) rows.push([name, (await load()).tool.summary]);
  for (const [name, load] of Object.entries(commands)) rows.push([name.replace(/^virt-/, ''), (await load()).tool.summary]);
  for (const [name, summary] of rows.sort((a, b) => (a[0] < b[0] ? -1 : 1))) lines.push(`  ${name.padEnd(18)}${summary}`);
  lines.push('', 'Options:', '  -V, --version     display version and exit', '      --help        display this help and exit');
  lines.push(
    '',
    'Examples:',
    '  # what is in this image?',
    '  guestwright stack disk.qcow2',
    '  # options of one command',
    '  guestwright cat --help',
  );
  return `${lines.join('\n')}\n`;
}

export const tool: Tool = {
  name: 'guestwright',
  summary: 'see into disk images and the guests on them',
  usage: ['guestwright COMMAND [ARGUMENTS]'],
  examples: [],
  setup: () => () => 0,
  async dispatch(argv) {
    const [name, ...rest] = argv;
    if (name === undefined || name === '--help' || name === 'help' || name === '-h') {
      out.write(await help());
      return name === undefined ? 1 : 0;
    }
    if (name === '--version' || name === '-V') {
      out.line(`guestwright ${version()}`);
      return 0;
    }
    if (name === '--long-options' || name === '--short-options') {
      out.line(name === '--long-options' ? '--help\n--version' : '-V');
      return 0;
    }
    const load = find(name);
    if (load === undefined) {
      const known = [...Object.keys(own), ...Object.keys(commands).map((c) => c.replace(/^virt-/, ''))].sort();
      warn(`guestwright: "${name}" is not a command (commands: ${known.join(', ')})`);
      return 1;
    }
    const { tool: chosen } = await load();
    return runTool(chosen, rest, chosen.name.startsWith('virt-') ? `guestwright ${chosen.name.slice(5)}` : chosen.name);
  },
};

/** All tools with their options, for completion scripts and tests. */
export async function allTools(): Promise<
  readonly {
    readonly name: string;
    readonly tool: Tool;
    readonly options: readonly {
      readonly long?: string | undefined;
      readonly short?: string | undefined;
      readonly takesValue: boolean;
      readonly help: string;
    }[];
  }[]
> {
  const list: {
    name: string;
    tool: Tool;
    options: { long?: string | undefined; short?: string | undefined; takesValue: boolean; help: string }[];
  }[] = [];
  for (const [name, load] of [
    ...Object.entries(commands),
    ...Object.entries(own).map(([n, l]) => [`guestwright ${n}`, l] as const),
  ]) {
    const { tool: t } = await load();
    const { command } = commandOf(t, t.name);
    const options = command.options
      .filter((o) => !o.hidden)
      .map((o) => ({ long: o.long, short: o.short, takesValue: o.required || o.optional, help: o.description }));
    list.push({ name, tool: t, options: [...options, { long: '--help', takesValue: false, help: 'display help and exit' }] });
  }
  return list;
}
