// Installs what is missing: Debian packages (as root or with sudo), npm packages, the native addon, the build.  Idempotent.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '..');

export function step(text) {
  console.log(`\n== ${text}`);
}

export function run(command, args, options = {}) {
  const r = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (r.error) throw r.error;
  return r.status ?? 1;
}
function must(command, args, options) {
  const status = run(command, args, options);
  if (status !== 0) {
    console.error(`\n${command} ${args.join(' ')} failed (exit ${status})`);
    process.exit(1);
  }
}
const quiet = (command, args) => spawnSync(command, args, { cwd: root, encoding: 'utf8' });

/** Installs missing Debian packages; prints the exact line and stops where it may not. */
export function debianPackages(names, { required = true } = {}) {
  const installed = new Set(
    (quiet('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n']).stdout ?? '')
      .split('\n')
      .filter((l) => l.startsWith('installed '))
      .map((l) => l.slice(10)),
  );
  const missing = [...new Set(names)].filter((n) => !installed.has(n));
  if (missing.length === 0) return true;
  const line = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  const isRoot = process.getuid() === 0;
  const sudo = !isRoot && quiet('sudo', ['-n', 'true']).status === 0;
  if (quiet('apt-get', ['--version']).status !== 0 || (!isRoot && !sudo)) {
    console.error(`These Debian packages are missing; install them with\n\n  ${isRoot ? '' : 'sudo '}${line}\n`);
    if (required) process.exit(1);
    return false;
  }
  step(`Debian packages: ${missing.join(' ')}`);
  const apt = (args) => (isRoot ? [args[0], args.slice(1)] : ['sudo', ['-n', ...args]]);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const go = (args) => run(...apt(args), { env, stdio: ['ignore', 'ignore', 'inherit'] });
  let status = go(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing]);
  // An old package list: update it once, then again.
  if (status !== 0) {
    go(['apt-get', 'update', '-qq']);
    status = go(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing]);
  }
  if (status !== 0) {
    console.error(`\nInstalling failed; try\n\n  ${isRoot ? '' : 'sudo '}apt-get update && ${isRoot ? '' : 'sudo '}${line}\n`);
    if (required) process.exit(1);
    return false;
  }
  return true;
}

/** npm ci when node_modules does not match the lock file. */
export function npmPackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .update(process.version)
    .digest('hex');
  const stamp = join(root, 'node_modules', '.guestwright-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  step('npm ci');
  // Our own scripts (addon, build) run as steps of their own below; dependencies' scripts run under allowScripts.
  must('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts']);
  if (run('npm', ['rebuild', 'zstd-napi'], { stdio: 'ignore' }) !== 0)
    console.error('zstd-napi could not be built: zstd is read by a slower library, and not written');
  mkdirSync(join(root, 'node_modules'), { recursive: true });
  writeFileSync(stamp, lock);
}

export function build() {
  step('native addon');
  must(process.execPath, ['scripts/build-native.mjs', '--optional']);
  step('build');
  must(process.execPath, ['scripts/build.mjs']);
}

if (process.argv[1] === import.meta.filename) {
  const { BUILD, TEST } = await import('./debian-packages.mjs');
  debianPackages([...BUILD, ...TEST], { required: false });
  npmPackages();
  build();
}
