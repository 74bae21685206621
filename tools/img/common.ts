import { type Command, Option } from 'commander';
import { GuestError, type ImageSpec, parseImageSpec, parseOptions, parseSize, Secrets } from '../../lib/index.js';
import { out } from '../shared/output.js';

export const flag = (command: Command, names: string, help: string, then: () => void): void => {
  command.addOption(
    new Option(names, help).argParser(() => {
      then();
      return true;
    }),
  );
};
export const value = (command: Command, names: string, help: string, then: (v: string) => void): void => {
  command.addOption(
    new Option(names, help).argParser((v: string) => {
      then(v);
      return v;
    }),
  );
};

const CACHES = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe', 'off'];

/** Options that most subcommands share. */
export class ImgOptions {
  readonly secrets = new Secrets();
  format: string | undefined;
  imageOpts = false;
  forceShare = false;
  quiet = false;
  progress = false;
  json = false;
  cache: string | undefined;

  constructor(private readonly command: Command) {
    value(command, '--object <definition>', 'define a secret: secret,id=ID,data=TEXT or secret,id=ID,file=PATH', (v) =>
      this.secrets.add(v),
    );
  }
  addFormat(help = 'image format instead of probing'): this {
    value(this.command, '-f, --format <format>', help, (v) => {
      this.format = v;
    });
    return this;
  }
  addImageOpts(): this {
    flag(this.command, '--image-opts', 'file names are option strings: driver=qcow2,file.filename=PATH,…', () => {
      this.imageOpts = true;
    });
    return this;
  }
  addForceShare(): this {
    flag(this.command, '-U, --force-share', 'open although another process writes', () => {
      this.forceShare = true;
    });
    return this;
  }
  addQuiet(): this {
    flag(this.command, '-q, --quiet', 'print errors only', () => {
      this.quiet = true;
    });
    return this;
  }
  addProgress(): this {
    flag(this.command, '-p, --progress', 'show progress', () => {
      this.progress = true;
    });
    return this;
  }
  addOutput(): this {
    value(this.command, '--output <human|json>', 'style of the output', (v) => {
      if (v !== 'human' && v !== 'json') throw new GuestError('usage', '--output must be used with human or json as argument');
      this.json = v === 'json';
    });
    return this;
  }
  /** Cache modes say how QEMU opens files; here only "not unsafe" means something: flush at the end. */
  addCache(names: string, target: boolean): this {
    value(this.command, names, target ? 'cache mode of the target' : 'cache mode of the source (of no effect)', (v) => {
      if (!CACHES.includes(v)) throw new GuestError('usage', `invalid cache option: ${v} (${CACHES.join(', ')})`);
      if (target) this.cache = v;
    });
    return this;
  }

  spec(name: string, format = this.format): ImageSpec {
    return parseImageSpec(name, { imageOpts: this.imageOpts, format });
  }
  get open() {
    return { secrets: this.secrets, forceShare: this.forceShare };
  }
  say(text: string): void {
    if (!this.quiet) out.line(text);
  }
}

/** Exactly one file name. */
export function oneFile(args: readonly string[]): string {
  if (args.length !== 1) throw new GuestError('usage', 'one image file name is expected');
  return args[0]!;
}

/** Several -o add up; "help" asks for the list. */
export class Settings {
  readonly #texts: string[] = [];
  add(text: string): void {
    this.#texts.push(text);
  }
  get given(): boolean {
    return this.#texts.length > 0;
  }
  get help(): boolean {
    return this.#texts.some((t) => t === 'help' || t === '?' || /(^|,)(help|\?)(,|$)/.test(t));
  }
  get values(): Record<string, string> {
    const all: Record<string, string> = {};
    for (const t of this.#texts) {
      if (t === '' || /(^|[^,])(,,)*,$/.test(t)) throw new GuestError('usage', `invalid option list: ${t}`);
      for (const [k, v] of parseOptions(t)) all[k] = v;
    }
    return all;
  }
}

export function bytes(text: string, what: string): number {
  const n = parseSize(text, what);
  if (n < 0) throw new GuestError('usage', `${what}: "${text}" is negative`);
  return n;
}
export function count(text: string, what: string, least = 1, most = 2 ** 31 - 1): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < least || n > most)
    throw new GuestError('usage', `${what}: "${text}" is not a number from ${least} to ${most}`);
  return n;
}
