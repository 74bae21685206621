import { out, warn } from './shared/output.js';
import { runTool, type Tool, version } from './shared/tool.js';

/** Each command is a file of its own, loaded when it is asked for. */
const COMMANDS: Readonly<Record<string, readonly [summary: string, load: () => Promise<Tool>]>> = {
  amend: ['change settings of an existing image', async () => (await import('./img/amend.js')).amend],
  bench: ['simple sequential I/O benchmark', async () => (await import('./img/bench.js')).bench],
  bitmap: ['change persistent dirty bitmaps', async () => (await import('./img/bitmap.js')).bitmap],
  check: ['verify an image, repair it', async () => (await import('./img/check.js')).check],
  commit: ['write an overlay into the image below it', async () => (await import('./img/commit.js')).commit],
  compare: ['do two images have the same contents?', async () => (await import('./img/compare.js')).compare],
  convert: ['copy images into a new one, of any format', async () => (await import('./img/convert.js')).convert],
  create: ['make a new image', async () => (await import('./img/create.js')).create],
  dd: ['copy a part of an image', async () => (await import('./img/dd.js')).dd],
  info: ['describe an image', async () => (await import('./img/info.js')).info],
  map: ['list what is allocated', async () => (await import('./img/map.js')).map],
  measure: ['space needed for a conversion', async () => (await import('./img/measure.js')).measure],
  rebase: ['change the backing file', async () => (await import('./img/rebase.js')).rebase],
  resize: ['change the size of the disk', async () => (await import('./img/resize.js')).resize],
  snapshot: ['list, make, apply and delete internal snapshots', async () => (await import('./img/snapshot.js')).snapshot],
};

function help(): string {
  return [
    'virt-img: create, convert, check and change disk images',
    '',
    'Usage:',
    '  virt-img COMMAND [OPTIONS] …',
    '  virt-img COMMAND --help',
    '',
    'Commands:',
    ...Object.entries(COMMANDS).map(([name, [summary]]) => `  ${name.padEnd(10)}${summary}`),
    '',
    'Options:',
    '  -V, --version  display version and exit',
    '  -h, --help     display this help and exit',
    '',
    'Formats: raw qcow2 vmdk vpc vhdx vdi',
    '',
    'Examples:',
    '  # what is this?',
    '  virt-img info disk.qcow2',
    '  # from VMware to QEMU',
    '  virt-img convert -p -O qcow2 disk.vmdk disk.qcow2',
    '',
  ].join('\n');
}

export const tool: Tool = {
  name: 'virt-img',
  summary: 'create, convert, check and change disk images',
  usage: ['virt-img COMMAND [OPTIONS] …'],
  examples: [
    ['what is this?', 'virt-img info disk.qcow2'],
    ['from VMware to QEMU', 'virt-img convert -p -O qcow2 disk.vmdk disk.qcow2'],
  ],
  setup: () => () => 0,
  async dispatch(argv) {
    const args = [...argv];
    while (args[0] === '-T' || args[0] === '--trace' || args[0]?.startsWith('--trace='))
      args.splice(0, args[0].includes('=') ? 1 : 2);
    const [name, ...rest] = args;
    if (name === '--help' || name === '-h') {
      out.write(help());
      return 0;
    }
    if (name === '--version' || name === '-V') {
      out.line(`virt-img (guestwright) ${version()}`);
      return 0;
    }
    if (name === '--long-options' || name === '--short-options') {
      out.line(name === '--long-options' ? '--help\n--version' : '-h\n-V');
      return 0;
    }
    const found = name === undefined || !Object.hasOwn(COMMANDS, name) ? undefined : COMMANDS[name];
    if (found === undefined) {
      const what = name === undefined ? 'not enough arguments' : `command not found: ${name}`;
      warn(`virt-img: ${what}\nTry \`virt-img --help' for more information.`);
      return 1;
    }
    return runTool(await found[1](), name === 'bench' ? rest : rest.map((a) => (a === '-h' ? '--help' : a)));
  },
};
