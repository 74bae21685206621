// Builds native/ with node-gyp, offline: Node's own headers, or those of the npm package node-api-headers.
// With --optional a missing compiler is a message, not a failure: everything that reads works without the addon.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const optional = process.argv.includes('--optional');
const native = join(root, 'native');

function fail(message) {
  console.error(`guestwright: native addon not built: ${message}`);
  if (optional) {
    console.error('guestwright: reading images works all the same, slower in places; `guestwright doctor` says what is missing.');
    process.exit(0);
  }
  process.exit(1);
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

if (!existsSync(join(native, 'binding.gyp'))) process.exit(0);
// Sources unchanged since the last build: nothing to do.
const hash = createHash('sha256').update(process.version + process.arch);
for (const f of readdirSync(native, { recursive: true, encoding: 'utf8' }).sort()) {
  if (f.startsWith('build') || !statSync(join(native, f)).isFile()) continue;
  hash.update(f).update(readFileSync(join(native, f)));
}
const digest = hash.digest('hex');
const stamp = join(native, 'build', 'Release', '.stamp');
if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest && !process.argv.includes('--force')) process.exit(0);

for (const tool of ['make', 'g++', 'python3'])
  if (!has(tool)) fail(`${tool} is not installed (apt-get install build-essential python3)`);

const require = createRequire(import.meta.url);
const gyp = [() => require.resolve('node-gyp/bin/node-gyp.js'), () => process.env.npm_config_node_gyp]
  .map((f) => {
    try {
      return f();
    } catch {
      return undefined;
    }
  })
  .find((p) => p !== undefined && existsSync(p));
if (gyp === undefined) fail('node-gyp was not found (npm brings it along)');

const args = [gyp, 'rebuild', '--directory', native];
const prefix = dirname(dirname(process.execPath));
if (existsSync(join(prefix, 'include', 'node', 'node_api.h'))) args.push(`--nodedir=${prefix}`);
const r = spawnSync(process.execPath, args, {
  stdio: ['ignore', 'pipe', 'pipe'],
  env: { ...process.env, JOBS: 'max' },
  maxBuffer: 1 << 26,
});
if (r.status !== 0) {
  const text = `${r.stdout}${r.stderr}`;
  console.error(text.split('\n').slice(-40).join('\n'));
  fail('node-gyp failed, see above');
}
// What binding.gyp leaves out, it says on a line of its own.
for (const line of new Set(`${r.stderr}`.split('\n'))) if (line.startsWith('guestwright: ')) console.error(line);
writeFileSync(stamp, digest);
