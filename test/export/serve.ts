import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { packageRoot } from '../../lib/addon/load.js';
import { run } from '../helpers/needs.js';

export const BIN = join(packageRoot(), 'dist', 'bin');

export interface Served {
  readonly uri: string;
  readonly socket: string;
  readonly ready: { readonly size: number; readonly readOnly: boolean; readonly format: string; readonly port?: number };
  readonly child: ChildProcess;
  /** Everything that it wrote to standard error. */
  readonly stderr: () => string;
  /** Its exit status, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** `guestwright nbd` in a process of its own until the test is done. */
export async function serve(args: readonly string[]): Promise<Served> {
  if (!existsSync(join(BIN, 'nbd-worker.js'))) run(process.execPath, [join(packageRoot(), 'scripts', 'build.mjs'), '--bundle']);
  const child = spawn(process.execPath, [join(BIN, 'guestwright.js'), 'nbd', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  let stderr = '';
  child.stderr.on('data', (b: Buffer) => {
    stderr += b.toString();
  });
  const ended = new Promise<number | string>((done) => child.once('exit', (status, signal) => done(status ?? signal ?? '')));
  onTestFinished(() => void child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (b: Buffer) => {
      text += b.toString();
      if (text.includes('\n')) resolve(text);
    });
    child.once('close', () => reject(new Error(`guestwright nbd ended: ${stderr}`)));
  });
  const ready = JSON.parse(line) as Served['ready'] & { uri: string; socket: string };
  return { uri: ready.uri, socket: ready.socket, ready, child, stderr: () => stderr, ended };
}

/** qemu-nbd on a unix socket until the test is done. */
export async function serveQemu(socket: string, args: readonly string[]): Promise<ChildProcess> {
  const child = spawn('qemu-nbd', ['-k', socket, '-t', ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await waitFor(() => existsSync(socket));
  return child;
}

export async function waitFor(what: () => boolean): Promise<void> {
  for (let i = 0; !what(); i++) {
    if (i > 1000) throw new Error('waited for 10 s in vain');
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** A program without blocking this process. */
export function runAsync(
  command: string,
  args: readonly string[],
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (b: Buffer) => {
      stdout += b.toString();
    });
    child.stderr.on('data', (b: Buffer) => {
      stderr += b.toString();
    });
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}
