// TypeScript to dist/lib (the library) and one bundle a command to dist/bin (start-up time is a feature: see ARCHITECTURE.md).
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
process.chdir(root);
// An installed package comes with dist/ and without the sources and the compiler.
if (!existsSync('lib') || !existsSync('node_modules/esbuild')) process.exit(0);
const { build } = createRequire(import.meta.url)('esbuild');

// --bundle: only the commands, without type check and library (for work on one tool).
const bundleOnly = process.argv.includes('--bundle');
const tsc = bundleOnly
  ? { status: 0 }
  : spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

const tools = readdirSync('tools')
  .filter((f) => f.endsWith('.ts'))
  .map((f) => f.replace(/\.ts$/, ''));
const entryPoints = Object.fromEntries(tools.map((t) => [t, `tool:${t}`]));
for (const w of ['http-worker', 'nbd-worker']) entryPoints[w] = `lib/block/${w}.ts`;
for (const f of readdirSync('tools/workers')) entryPoints[f.replace(/\.ts$/, '')] = join('tools/workers', f);

/** Each command's entry: its tool, run. */
const toolEntry = {
  name: 'tool-entry',
  setup(b) {
    b.onResolve({ filter: /^tool:/ }, (a) => ({ path: a.path.slice(5), namespace: 'tool' }));
    b.onLoad({ filter: /.*/, namespace: 'tool' }, (a) => ({
      contents: `import { main } from './tools/shared/tool.ts';\nimport { tool } from './tools/${a.path}.ts';\nawait main(tool);\n`,
      resolveDir: root,
      loader: 'ts',
    }));
  },
};
const built = await build({
  metafile: true,
  entryPoints,
  outdir: 'dist/bin',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  minify: true,
  keepNames: true,
  chunkNames: 'chunk-[hash]',
  external: ['libxml2-wasm', 'zstd-napi', '@napi-rs/lzma', '@napi-rs/lzma/*', 'node-addon-api'],
  banner: {
    js: "#!/usr/bin/env node\nimport{createRequire as __gwRequire}from'node:module';const require=__gwRequire(import.meta.url);",
  },
  plugins: [toolEntry],
  logLevel: 'warning',
});
for (const t of tools) chmodSync(join('dist/bin', `${t}.js`), 0o755);

// What an earlier build left goes last: commands that run meanwhile (tests) keep their files until the new ones are there.
const fresh = new Set(Object.keys(built.metafile.outputs).map((f) => basename(f)));
for (const f of readdirSync('dist/bin')) if (!fresh.has(f)) rmSync(join('dist/bin', f), { force: true });
if (!bundleOnly)
  for (const f of readdirSync('dist'))
    if (!['bin', 'lib', 'tools'].includes(f)) rmSync(join('dist', f), { recursive: true, force: true });
