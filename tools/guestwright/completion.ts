import { GuestError } from '../../lib/index.js';
import { out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';

type Described = Awaited<ReturnType<typeof import('../guestwright.js')['allTools']>>;

const quote = (s: string) => `'${s.replaceAll("'", "'\\''")}'`;
const words = (t: Described[number]) =>
  t.options.flatMap((o) => [o.long, o.short].filter((x): x is string => x !== undefined)).join(' ');

function bash(tools: Described): string {
  const lines = [
    '# bash completion for guestwright: source <(guestwright completion bash)',
    '_guestwright_options() {',
    '  case "$1" in',
  ];
  for (const t of tools) lines.push(`    ${quote(t.name)}) echo ${quote(words(t))} ;;`);
  lines.push(
    '  esac',
    '}',
    '_guestwright() {',
    '  local cur="${COMP_WORDS[COMP_CWORD]}" name="${COMP_WORDS[0]##*/}"',
    '  if [ "$name" = guestwright ]; then',
    '    if [ "$COMP_CWORD" -eq 1 ]; then',
    `      COMPREPLY=($(compgen -W ${quote(`${tools.map((t) => t.name.replace(/^virt-|^guestwright /, '')).join(' ')} --help --version`)} -- "$cur")); return`,
    '    fi',
    '    name="virt-${COMP_WORDS[1]}"',
    '    [ -n "$(_guestwright_options "$name")" ] || name="guestwright ${COMP_WORDS[1]}"',
    '  fi',
    '  case "$cur" in',
    '    -*) COMPREPLY=($(compgen -W "$(_guestwright_options "$name")" -- "$cur")) ;;',
    '    *) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;',
    '  esac',
    '}',
    `complete -F _guestwright guestwright ${tools
      .filter((t) => t.name.startsWith('virt-'))
      .map((t) => t.name)
      .join(' ')}`,
  );
  return `${lines.join('\n')}\n`;
}

function zsh(tools: Described): string {
  const spec = (t: Described[number]) =>
    t.options
      .flatMap((o) =>
        [o.long, o.short]
          .filter((x): x is string => x !== undefined)
          .map((x) =>
            quote(
              `${x}${o.takesValue && x === o.long ? '=' : ''}[${o.help.replace(/[[\]:]/g, ' ')}]${o.takesValue ? ':value:_files' : ''}`,
            ),
          ),
      )
      .join(' ');
  const lines = [
    '#compdef guestwright ' +
      tools
        .filter((t) => t.name.startsWith('virt-'))
        .map((t) => t.name)
        .join(' '),
    '# zsh completion for guestwright: guestwright completion zsh > "${fpath[1]}/_guestwright"',
    '_guestwright() {',
    '  local name=$service',
    '  if [[ $service == guestwright ]]; then',
    '    if (( CURRENT == 2 )); then',
    `      compadd -- ${tools.map((t) => t.name.replace(/^virt-|^guestwright /, '')).join(' ')}`,
    '      return',
    '    fi',
    '    name=$words[2]',
    '    shift words; (( CURRENT-- ))',
    '  fi',
    '  case $name in',
  ];
  for (const t of tools) {
    const short = t.name.replace(/^virt-|^guestwright /, '');
    lines.push(`    ${t.name.startsWith('virt-') ? `${t.name}|` : ''}${short}) _arguments ${spec(t)} '*:file:_files' ;;`);
  }
  lines.push('  esac', '}', '_guestwright "$@"');
  return `${lines.join('\n')}\n`;
}

function fish(tools: Described): string {
  const lines = ['# fish completion for guestwright: guestwright completion fish > ~/.config/fish/completions/guestwright.fish'];
  const option = (o: Described[number]['options'][number]) =>
    `${o.long === undefined ? '' : ` -l ${o.long.slice(2)}`}${o.short === undefined ? '' : ` -s ${o.short.slice(1)}`}${o.takesValue ? ' -r' : ''} -d ${quote(o.help)}`;
  for (const t of tools) {
    const short = t.name.replace(/^virt-|^guestwright /, '');
    lines.push(`complete -c guestwright -n '__fish_use_subcommand' -a ${short} -d ${quote(t.tool.summary)}`);
    for (const o of t.options) {
      lines.push(`complete -c guestwright -n '__fish_seen_subcommand_from ${short}'${option(o)}`);
      if (t.name.startsWith('virt-')) lines.push(`complete -c ${t.name}${option(o)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

const SHELLS = { bash, zsh, fish };

export const tool: Tool = {
  name: 'guestwright completion',
  summary: 'print a completion script for bash, zsh or fish',
  usage: ['guestwright completion bash|zsh|fish'],
  examples: [
    ['for this shell only', 'source <(guestwright completion bash)'],
    ['for good', 'guestwright completion fish > ~/.config/fish/completions/guestwright.fish'],
  ],
  setup: () => async (args) => {
    const write = SHELLS[args[0] as keyof typeof SHELLS];
    if (write === undefined || args.length !== 1)
      throw new GuestError('usage', `wanted one of: ${Object.keys(SHELLS).join(', ')}`);
    const { allTools } = await import('../guestwright.js');
    out.write(write(await allTools()));
    return 0;
  },
};
