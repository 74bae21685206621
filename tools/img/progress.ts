import { out } from '../shared/output.js';

/** qemu-img's progress line on standard output: "    (42.00/100%)", written over itself. */
export class PercentLine {
  #last = -1;
  constructor(private readonly on: boolean) {}
  report(done: number, total: number): void {
    const percent = total > 0 ? Math.min(100, (done / total) * 100) : 100;
    if (!this.on || (percent - this.#last < 1 && percent < 100) || percent === this.#last) return;
    this.#last = percent;
    out.write(`    (${percent.toFixed(2)}/100%)\r`);
    out.flush();
  }
  end(): void {
    if (this.on && this.#last >= 0) out.line();
  }
}
