import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Serves `file` on 127.0.0.1 from a process of its own until the test is done; gives the base address. */
export async function serveFile(file: string, mode: string): Promise<string> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'http-server.mjs'), file, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.unref();
  });
  const port = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (d: Buffer) => resolve(d.toString().trim()));
    child.once('exit', (status) => reject(new Error(`the test server ended with ${status}`)));
  });
  return `http://127.0.0.1:${port}`;
}
