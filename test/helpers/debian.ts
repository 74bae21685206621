import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * A file out of a Debian package that is only unpacked, not installed: test data and schemas.  Undefined where apt has no
 * access to it.  Fetched once a machine.
 */
export function debianFile(pkg: string, path: string): string | undefined {
  const folder = join(tmpdir(), 'guestwright-debian', pkg);
  const file = join(folder, 'root', path);
  if (existsSync(file)) return file;
  mkdirSync(folder, { recursive: true });
  if (spawnSync('apt-get', ['download', pkg], { cwd: folder }).status !== 0) return undefined;
  const deb = readdirSync(folder).find((f) => f.endsWith('.deb'));
  if (deb === undefined || spawnSync('dpkg-deb', ['-x', join(folder, deb), join(folder, 'root')]).status !== 0) return undefined;
  rmSync(join(folder, deb));
  return existsSync(file) ? file : undefined;
}
