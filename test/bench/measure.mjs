// Times whole commands side by side: A, B, A, B, …, medians of wall time, and the largest resident size of each.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const median = (v) => [...v].sort((a, b) => a - b)[Math.floor(v.length / 2)];

/** One run: seconds of wall time and MiB of the largest resident size (GNU time). */
export function once(command, args, options = {}) {
  const report = join(tmpdir(), `guestwright-bench-${process.pid}`);
  const timed = existsSync('/usr/bin/time');
  const start = process.hrtime.bigint();
  const r = timed
    ? spawnSync('/usr/bin/time', ['-f', '%M', '-o', report, command, ...args], {
        stdio: ['ignore', 'ignore', 'pipe'],
        ...options,
      })
    : spawnSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  if (r.status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${r.status}\n${r.stderr}`);
  const rss = timed ? Number(readFileSync(report, 'utf8').trim().split('\n').pop()) / 1024 : Number.NaN;
  rmSync(report, { force: true });
  return { seconds, rss };
}

/** Medians of `runs` alternating runs after one warm-up each. */
export function sideBySide(a, b, { runs = 5, peerRuns = runs } = {}) {
  const ours = [];
  const theirs = [];
  a();
  if (b !== undefined && peerRuns > 1) b();
  for (let i = 0; i < runs; i++) {
    ours.push(a());
    if (b !== undefined && i < peerRuns) theirs.push(b());
  }
  return {
    seconds: median(ours.map((x) => x.seconds)),
    rss: Math.max(...ours.map((x) => x.rss)),
    peer: theirs.length === 0 ? Number.NaN : median(theirs.map((x) => x.seconds)),
  };
}

const ms = (s) => (Number.isNaN(s) ? '-' : s < 10 ? `${(s * 1000).toFixed(0)} ms` : `${s.toFixed(1)} s`);

/** One line: what, our time, the peer's, the ratio, whether it is what was wanted, our memory. */
export function row(what, r, wanted) {
  const ratio = r.peer / r.seconds;
  const verdict =
    wanted === undefined || Number.isNaN(ratio) ? '' : ratio >= wanted ? `ok (wanted ${wanted})` : `SHORT (wanted ${wanted})`;
  console.log(
    `${what.padEnd(34)} ${ms(r.seconds).padStart(9)} ${ms(r.peer).padStart(9)} ${Number.isNaN(ratio) ? '        -' : `${ratio.toFixed(2)} x`.padStart(9)}  ${verdict.padEnd(20)} ${Number.isNaN(r.rss) ? '' : `${r.rss.toFixed(0)} MiB`}`,
  );
}
export const head = (title) =>
  console.log(
    `\n${title}\n${'what'.padEnd(34)} ${'ours'.padStart(9)} ${'peer'.padStart(9)} ${'ratio'.padStart(9)}  ${'verdict'.padEnd(20)} memory`,
  );
