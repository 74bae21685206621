// npm run check: sets everything up, then type check, lint, all tests.  Ends with the line "N passed, N failed, N skipped".
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BUILD, TEST } from './debian-packages.mjs';
import { build, debianPackages, npmPackages, run, step } from './setup.mjs';

debianPackages([...BUILD, ...TEST], { required: false });
npmPackages();
build();

step('type check');
const types = run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit']);
step('lint and format');
const lint = run(process.execPath, [
  'node_modules/@biomejs/biome/bin/biome',
  'check',
  '.',
  '--max-diagnostics=50',
  '--error-on-warnings',
]);

step('tests');
const dir = mkdtempSync(join(tmpdir(), 'guestwright-check-'));
const report = join(dir, 'report.json');
const tests = run(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { env: process.stdout.isTTY ? process.env : { ...process.env, NO_COLOR: '1' } },
);
if (!existsSync(report)) {
  console.error('the test runner wrote no report');
  console.log('\n0 passed, 1 failed, 0 skipped');
  process.exit(1);
}
const r = JSON.parse(readFileSync(report, 'utf8'));
rmSync(dir, { recursive: true, force: true });
const skipped = [];
const broken = r.testResults.filter((f) => f.status === 'failed' && f.assertionResults.every((t) => t.status !== 'failed'));
for (const f of r.testResults)
  for (const t of f.assertionResults)
    if (t.status === 'skipped' || t.status === 'pending' || t.status === 'todo') skipped.push(t.fullName);
if (skipped.length > 0) console.log(`\nSkipped (each with its reason above):\n${skipped.map((s) => `  ${s}`).join('\n')}`);
for (const f of broken) console.log(`Test file that could not run: ${f.name}: ${f.message}`);
let failed = r.numFailedTests + broken.length;
for (const [what, status] of [
  ['type check', types],
  ['lint', lint],
])
  if (status !== 0) {
    console.log(`${what}: failed`);
    failed++;
  }
if (tests !== 0 && failed === 0) failed = 1;
console.log(`\n${r.numPassedTests} passed, ${failed} failed, ${skipped.length} skipped`);
process.exit(failed === 0 ? 0 : 1);
