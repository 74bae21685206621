// npm run fuzz [-- DRIVER [ITERATIONS [SEED]]]: nightly-style fuzzing, 100,000 mutations a driver unless said.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const [driver, iterations = '100000', seed = String(Math.floor(Date.now() / 1000))] = process.argv.slice(2);
const all = readdirSync(join(root, 'test', 'fuzz'))
  .filter((f) => f.endsWith('.fuzz.ts'))
  .map((f) => f.replace(/\.fuzz\.ts$/, ''));
if (driver !== undefined && !all.includes(driver)) {
  console.error(`fuzz: "${driver}" is not one of ${all.join(', ')}`);
  process.exit(1);
}
let failed = 0;
for (const name of driver === undefined ? all : [driver]) {
  const start = Date.now();
  // A process of its own for each: its memory limit is the test's, and a crash of one does not end the others.
  const r = spawnSync(
    process.execPath,
    ['--max-old-space-size=1024', 'node_modules/vitest/vitest.mjs', 'run', '--config', 'test/fuzz/vitest.config.ts'],
    {
      cwd: root,
      env: { ...process.env, FUZZ_DRIVER: name, FUZZ_ITERATIONS: iterations, FUZZ_SEED: seed },
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    },
  );
  const ok = r.status === 0;
  console.log(
    `${ok ? 'ok    ' : 'FAILED'} ${name}: ${iterations} mutations, seed ${seed}, ${Math.round((Date.now() - start) / 1000)} s`,
  );
  if (!ok) {
    failed++;
    console.log(`${r.stdout}${r.stderr}`.split('\n').slice(0, 60).join('\n'));
  }
}
process.exit(failed === 0 ? 0 : 1);
