import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/addon/load.js';
import { run } from './needs.js';

const BIN = join(packageRoot(), 'dist', 'bin');

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
  readonly bytes: Buffer;
}

/** Runs a built command as its user would: arguments in, output and status out.  Builds the commands when they are missing. */
export function tool(
  name: string,
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Ran {
  if (!existsSync(join(BIN, `${name}.js`))) run(process.execPath, [join(packageRoot(), 'scripts', 'build.mjs'), '--bundle']);
  const r = spawnSync(process.execPath, [join(BIN, `${name}.js`), ...args], {
    input: options.input ?? '',
    cwd: options.cwd,
    maxBuffer: 1 << 30,
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', ...options.env },
  });
  if (r.error) throw r.error;
  return { stdout: r.stdout.toString(), stderr: r.stderr.toString(), status: r.status, bytes: r.stdout };
}
