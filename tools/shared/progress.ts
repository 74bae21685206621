import { encodeName } from '../../lib/index.js';
import { writeAll } from './output.js';

/** A progress bar on standard error, on a terminal only; drawn ten times a second at most. */
export class ProgressBar {
  readonly #on: boolean;
  #last = 0;
  #drawn = false;
  constructor(
    private readonly what: string,
    wanted: boolean | undefined = undefined,
  ) {
    this.#on = wanted ?? process.stderr.isTTY === true;
  }

  report(done: number, total: number): void {
    if (!this.#on) return;
    const now = Date.now();
    if (now - this.#last < 100 && done < total) return;
    this.#last = now;
    const width = Math.max(10, Math.min(50, (process.stderr.columns ?? 80) - this.what.length - 12));
    const part = total > 0 ? Math.min(1, done / total) : 0;
    const full = Math.round(part * width);
    writeAll(
      2,
      encodeName(
        `\r${this.what} [${'#'.repeat(full)}${'-'.repeat(width - full)}] ${String(Math.floor(part * 100)).padStart(3)}%`,
      ),
    );
    this.#drawn = true;
  }
  end(): void {
    if (this.#drawn) writeAll(2, encodeName(`\r${' '.repeat((process.stderr.columns ?? 80) - 1)}\r`));
    this.#drawn = false;
  }
}
