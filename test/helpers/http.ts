import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Serves `file` on 127.0.0.1 from a process of its own until the test is done; gives the base address. */
export async function serveFile(file: string, mode: string, tlsFolder?: string): Promise<string> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'http-server.mjs'), file, mode, ...(tlsFolder === undefined ? [] : [tlsFolder])],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  onTestFinished(() => {
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.unref();
  });
  const port = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (d: Buffer) => resolve(d.toString().trim()));
    child.once('exit', (status) => reject(new Error(`the test server ended with ${status}`)));
  });
  return `${tlsFolder === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
}

/** A proxy in a process of its own: its address, and the tunnels that were asked of it so far. */
export async function serveProxy(): Promise<{ readonly address: string; readonly tunnels: () => readonly string[] }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'http-proxy.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (d: Buffer) => {
      text += d.toString();
      if (text.includes('\n')) resolve();
    });
    child.once('exit', (status) => reject(new Error(`the test proxy ended with ${status}`)));
  });
  const [port] = text.split('\n');
  return { address: `127.0.0.1:${port}`, tunnels: () => text.trim().split('\n').slice(1) };
}
