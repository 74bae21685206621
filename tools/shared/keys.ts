import { readFileSync, readSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { GuestError, type KeyRing, openFile } from '../../lib/index.js';
import { warn } from './output.js';

interface KeyRule {
  readonly selector: string;
  readonly key: () => Uint8Array;
}

/**
 * Keys for encrypted devices: --key SELECTOR:key:… or :file:…, --keys-from-stdin, else asked for on the terminal.
 * A selector is a device, a UUID, or "all".
 */
export class ToolKeys implements KeyRing {
  readonly #rules: KeyRule[] = [];
  #fromStdin = false;
  #echo = false;
  #stdinLines: string[] | undefined;

  addOptions(command: Command): this {
    command.addOption(
      new Option('--key <selector>', 'key for an encrypted device: DEVICE|UUID|all:key:KEY, …:file:PATH').argParser(
        (v: string) => {
          this.#rules.push(parseKey(v));
          return v;
        },
      ),
    );
    command.addOption(
      new Option('--keys-from-stdin', 'read passphrases from standard input, one a line').argParser(() => {
        this.#fromStdin = true;
        return true;
      }),
    );
    command.addOption(
      new Option('--echo-keys', 'show passphrases while they are typed').argParser(() => {
        this.#echo = true;
        return true;
      }),
    );
    return this;
  }

  /** Did the user name keys, or where to read them? */
  get given(): boolean {
    return this.#fromStdin || this.#rules.length > 0;
  }

  *for(device: string, uuid: string): Iterable<Uint8Array> {
    let any = false;
    for (const r of this.#rules)
      if (r.selector === 'all' || r.selector === device || r.selector.toLowerCase() === uuid.toLowerCase()) {
        any = true;
        yield r.key();
      }
    if (this.#fromStdin) {
      this.#stdinLines ??= readFileSync(0, 'utf8').split('\n');
      const line = this.#stdinLines.shift();
      if (line !== undefined && line !== '') yield Buffer.from(line);
      return;
    }
    if (!any && process.stdin.isTTY) yield Buffer.from(ask(`Enter key or passphrase ("${device}"): `, this.#echo));
  }
}

function parseKey(text: string): KeyRule {
  // A device name may itself hold colons, so the type is looked for from the left after the first field.
  const m = /^(.*?):(key|file|clevis)(?::([\s\S]*))?$/.exec(text);
  if (m === null || m[1] === '') throw new GuestError('usage', `--key: "${text}" is not DEVICE:key:KEY or DEVICE:file:PATH`);
  const [, selector, kind, value] = m as unknown as [string, string, string, string | undefined];
  if (kind === 'clevis')
    throw new GuestError('unsupported', '--key: clevis needs a network in an appliance, which this version does not have');
  if (value === undefined) throw new GuestError('usage', `--key: "${text}" has no ${kind}`);
  return { selector, key: () => (kind === 'key' ? Buffer.from(value) : keyFile(value)) };
}

function keyFile(path: string): Uint8Array {
  const f = openFile(path);
  try {
    if (f.size > 8 << 20) throw new GuestError('usage', `key file of ${f.size} bytes is larger than 8 MiB`, { path });
    const b = new Uint8Array(f.size);
    f.read(b, 0);
    // A passphrase file made by an editor ends in a newline that is not part of it.
    return b.length > 0 && b[b.length - 1] === 10 && !b.subarray(0, -1).includes(10) ? b.subarray(0, -1) : b;
  } finally {
    f.close();
  }
}

/** A line from the terminal, not echoed. */
function ask(prompt: string, echo: boolean): string {
  process.stderr.write(prompt);
  if (!echo) process.stdin.setRawMode(true);
  const byte = Buffer.alloc(1);
  const bytes: number[] = [];
  try {
    for (;;) {
      let n = 0;
      try {
        n = readSync(0, byte, 0, 1, null);
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== 'EAGAIN') throw e;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
        continue;
      }
      const c = byte[0]!;
      if (n === 0 || c === 10 || c === 13 || c === 4) break;
      if (c === 3) process.exit(130);
      if (c === 127 || c === 8) bytes.pop();
      else bytes.push(c);
    }
  } finally {
    if (!echo) {
      process.stdin.setRawMode(false);
      warn('');
    }
  }
  return Buffer.from(bytes).toString('utf8');
}
