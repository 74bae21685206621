import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import { explain, GuestError, packageRoot, setLogSink } from '../../lib/index.js';
import { json, out, warn } from './output.js';

/** One command.  `setup` declares its options on `command` and gives back what runs with the positional arguments. */
export interface Tool {
  readonly name: string;
  /** One line, for --help and the umbrella's list. */
  readonly summary: string;
  readonly usage: readonly string[];
  /** Shown at the end of --help: what it does, and the command. */
  readonly examples: readonly (readonly [what: string, command: string])[];
  /** More paragraphs for --help. */
  readonly notes?: readonly string[];
  setup(command: Command): (args: readonly string[]) => number | undefined | Promise<number | undefined>;
  /** Exit status for errors: 1 unless said. */
  readonly errorStatus?: number;
  /** The umbrella's own way through its arguments. */
  dispatch?(argv: readonly string[]): Promise<number>;
  /** Short options that take no value from the common set (virt-df wants -h for itself). */
  readonly noVersionShort?: boolean;
}

export interface CommonState {
  verbose: boolean;
  trace: boolean;
  json: boolean;
}
export const common: CommonState = { verbose: false, trace: false, json: false };

export function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}

/** Adds --json; the tool asks `common.json`. */
export const jsonOption = (command: Command): Command =>
  command.addOption(
    new Option('--json', 'print JSON').argParser(() => {
      common.json = true;
      return true;
    }),
  );

export function commandOf(tool: Tool, argv0: string): { command: Command; run: ReturnType<Tool['setup']> } {
  const command = new Command(argv0)
    .usage('')
    .exitOverride()
    .helpOption('--help', 'display this help and exit')
    .allowExcessArguments(true)
    .showHelpAfterError(false)
    .configureOutput({ outputError: () => {}, writeErr: () => {} });
  const run = tool.setup(command);
  command.addOption(
    new Option('-v, --verbose', 'verbose messages on standard error').argParser(() => {
      common.verbose = true;
      setLogSink((area, message) => warn(`${tool.name}: ${area}: ${message}`));
      return true;
    }),
  );
  // A tool whose original has another -x keeps that one (qemu-nbd: the export's name).
  const trace = command.options.some((o) => o.short === '-x') ? '--trace-reads' : '-x';
  command.addOption(
    new Option(trace, 'trace what is read, on standard error').argParser(() => {
      common.trace = true;
      setLogSink((area, message) => warn(`${tool.name}: trace: ${area}: ${message}`));
      return true;
    }),
  );
  command.addOption(new Option(tool.noVersionShort ? '--version' : '-V, --version', 'display version and exit'));
  command.addOption(new Option('--long-options').hideHelp());
  command.addOption(new Option('--short-options').hideHelp());
  return { command, run };
}

export function helpText(tool: Tool, argv0: string, command: Command): string {
  const options = command.options
    .filter((o) => !o.hidden)
    .map((o) => [(o.short === undefined ? '    ' : '') + o.flags, o.description] as const);
  options.push(['    --help', 'display this help and exit']);
  const width = Math.min(34, Math.max(...options.map(([f]) => f.length)) + 2);
  const lines = [
    `${tool.name}: ${tool.summary}`,
    '',
    'Usage:',
    ...tool.usage.map((u) => `  ${u.replace(tool.name, argv0)}`),
    '',
    'Options:',
  ];
  for (const [flags, description] of options)
    lines.push(
      flags.length + 2 > width ? `  ${flags}\n  ${' '.repeat(width)}${description}` : `  ${flags.padEnd(width)}${description}`,
    );
  for (const n of tool.notes ?? []) lines.push('', n);
  if (tool.examples.length > 0)
    lines.push('', 'Examples:', ...tool.examples.flatMap(([what, how]) => [`  # ${what}`, `  ${how.replace(tool.name, argv0)}`]));
  return `${lines.join('\n')}\n`;
}

/**
 * getopt_long's habits, which scripts rely on: an optional value must be joined with "=", and a long option may be cut
 * short where it stays unambiguous.
 */
export function normalizeArguments(command: Command, argv: readonly string[]): string[] {
  const names = [...command.options.map((o) => o.long).filter((n): n is string => n !== undefined), '--help'];
  const outArgs: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const a = argv[i]!;
    if (a === '--') return [...outArgs, ...argv.slice(i)];
    if (!a.startsWith('--')) {
      outArgs.push(a);
      // The value of a short option is never an option itself, whatever it looks like.
      const option = /^-[A-Za-z]$/.test(a) ? command.options.find((o) => o.short === a) : undefined;
      if (option?.required && i + 1 < argv.length) outArgs.push(argv[++i]!);
      continue;
    }
    const eq = a.indexOf('=');
    const given = eq < 0 ? a : a.slice(0, eq);
    let name = given;
    if (!names.includes(given)) {
      const candidates = names.filter((n) => n.startsWith(given));
      if (candidates.length === 1) name = candidates[0]!;
      else if (candidates.length > 1) throw new GuestError('usage', `option ${given} is ambiguous (${candidates.join(', ')})`);
    }
    const option = command.options.find((o) => o.long === name);
    if (option === undefined || (!option.optional && !option.required)) {
      if (option !== undefined && eq >= 0) throw new GuestError('usage', `option ${name} takes no value`);
      outArgs.push(eq < 0 ? name : name + a.slice(eq));
      continue;
    }
    if (eq >= 0) outArgs.push(`${name}=${a.slice(eq + 1)}`);
    else if (option.optional) outArgs.push(`${name}=`);
    else {
      outArgs.push(name);
      if (i + 1 < argv.length) outArgs.push(argv[++i]!);
    }
  }
  return outArgs;
}

/** Runs a tool as a program: arguments in, status out. */
export async function runTool(tool: Tool, argv: readonly string[], argv0 = tool.name): Promise<number> {
  let status: number;
  try {
    if (tool.dispatch !== undefined) {
      const r = await tool.dispatch(argv);
      out.flush();
      return r;
    }
    const { command, run } = commandOf(tool, argv0);
    const args = normalizeArguments(command, argv);
    const early = earlyExit(tool, argv0, command, args);
    if (early !== undefined) {
      out.write(early);
      out.flush();
      return 0;
    }
    command.parse(args, { from: 'user' });
    status = (await run(command.args)) ?? 0;
  } catch (e) {
    out.flush();
    status = report(tool, argv0, e);
  }
  out.flush();
  return status;
}

function earlyExit(tool: Tool, argv0: string, command: Command, args: readonly string[]): string | undefined {
  const end = args.indexOf('--');
  const given = new Set(end < 0 ? args : args.slice(0, end));
  if (given.has('--help')) return helpText(tool, argv0, command);
  if (given.has('--version') || (!tool.noVersionShort && given.has('-V'))) return `${tool.name} (guestwright) ${version()}\n`;
  if (given.has('--long-options'))
    return `${command.options
      .filter((o) => !o.hidden && o.long !== undefined)
      .map((o) => o.long)
      .join('\n')}\n--help\n`;
  if (given.has('--short-options'))
    return `${command.options
      .filter((o) => !o.hidden && o.short !== undefined)
      .map((o) => o.short)
      .join('\n')}\n`;
  return undefined;
}

function report(tool: Tool, argv0: string, e: unknown): number {
  if (e instanceof CommanderError) {
    warn(`${argv0}: ${e.message.replace(/^error: /, '')}\nTry \`${argv0} --help' for more information.`);
    return tool.errorStatus ?? 1;
  }
  const known = e instanceof GuestError;
  if (common.json)
    warn(json({ error: { code: known ? e.code : 'internal', message: explain(e), ...(known ? { where: e.where } : {}) } }));
  else warn(`${argv0}: ${known ? explain(e) : `internal error: ${explain(e)}; this is a bug`}`);
  if ((common.verbose || common.trace || !known) && e instanceof Error && e.stack !== undefined) warn(e.stack);
  if (known && e.code === 'cancelled') return 130;
  if (known && e.code === 'usage') warn(`Try \`${argv0} --help' for more information.`);
  return tool.errorStatus ?? 1;
}

/** The last line of every bundled command. */
export async function main(tool: Tool): Promise<void> {
  process.exitCode = await runTool(tool, process.argv.slice(2));
  // A worker (HTTP) or a timer must not keep a finished command alive.
  process.exit(process.exitCode);
}
