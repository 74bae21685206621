import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { it } from 'vitest';

const PATH = ['/usr/sbin', '/sbin', '/usr/local/sbin', ...(process.env['PATH'] ?? '').split(':')];
process.env['PATH'] = [...new Set(PATH)].join(':');

export const hasTool = (name: string): boolean => PATH.some((dir) => existsSync(`${dir}/${name}`));

/**
 * `it` when all these programs are installed, else a skipped test that prints which one is missing.
 *   itNeeds('qemu-img')('reads what qemu-img wrote', () => …)
 */
export function itNeeds(...tools: readonly string[]): typeof it {
  const missing = tools.filter((t) => !hasTool(t));
  return missing.length === 0 ? it : skipBecause(`${missing.join(', ')} not installed`);
}

/** `it` that skips and says why. */
export function skipBecause(reason: string): typeof it {
  return ((name: string) =>
    it(name, (context) => {
      console.log(`skipped: ${name}: ${reason}`);
      context.skip(reason);
    })) as unknown as typeof it;
}

export const itIf = (condition: boolean, reason: string): typeof it => (condition ? it : skipBecause(reason));

/** Runs a program; throws with its output unless it exits 0 (or one of `ok`). */
export function run(
  command: string,
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly cwd?: string; readonly ok?: readonly number[] } = {},
): string {
  for (let tries = 1; ; tries++) {
    const r = spawnSync(command, args, {
      input: options.input,
      cwd: options.cwd,
      maxBuffer: 1 << 28,
      env: { ...process.env, LC_ALL: 'C' },
    });
    if (r.error) throw r.error;
    if ((options.ok ?? [0]).includes(r.status ?? -1)) return r.stdout.toString();
    // QEMU times PBKDF2 when it makes a LUKS header, and gives up where its thread was not scheduled long enough.
    if (r.stderr.includes('Unable to get accurate CPU usage') && tries < 20) continue;
    throw new Error(`${command} ${args.join(' ')}: exit ${r.status ?? r.signal}\n${r.stderr.toString()}${r.stdout.toString()}`);
  }
}
