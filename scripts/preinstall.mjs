// `npm install -g .` on a fresh clone only makes links to this folder: what they point at must be built before.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const isClone = existsSync(join(root, 'lib')) && existsSync(join(root, 'package-lock.json'));
if (process.env.npm_config_global !== 'true' || !isClone || existsSync(join(root, 'dist', 'bin', 'guestwright.js')))
  process.exit(0);

const env = Object.fromEntries(
  Object.entries(process.env).filter(([k]) => !/^npm_config_(global|prefix|local_prefix)$/i.test(k)),
);
const run = (command, args) => {
  const r = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'], env });
  if (r.status !== 0) {
    console.error(`guestwright: ${command} ${args.join(' ')} failed`);
    process.exit(1);
  }
};
run('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts']);
spawnSync('npm', ['rebuild', 'zstd-napi'], { cwd: root, stdio: 'ignore', env });
run(process.execPath, ['scripts/build-native.mjs', '--optional']);
run(process.execPath, ['scripts/build.mjs']);
