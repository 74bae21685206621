import { usage } from '../core/errors.js';
import { parseSize } from '../core/size.js';
import type { CreateOptionInfo, CreateOptions } from './format.js';

/** The `-o` settings of one creation, checked against what the format knows. */
export class Settings {
  readonly #values: Readonly<Record<string, string>>;
  constructor(
    private readonly format: string,
    options: CreateOptions,
    known: readonly CreateOptionInfo[],
  ) {
    this.#values = options.settings ?? {};
    for (const [name, value] of Object.entries(this.#values)) {
      const info = known.find((k) => k.name === name);
      if (info === undefined) throw usage(`${format} has no option "${name}" (${known.map((k) => k.name).join(', ')})`);
      if (info.values !== undefined && !info.values.includes(value))
        throw usage(`${format} option ${name}: "${value}" is not known (${info.values.join(', ')})`);
    }
    if (!Number.isSafeInteger(options.size) || options.size < 0)
      throw usage(`${format}: size ${options.size} is not a number of bytes`);
  }
  text(name: string): string | undefined {
    return this.#values[name];
  }
  choice<const T extends string>(name: string, fallback: T): string {
    return this.#values[name] ?? fallback;
  }
  size(name: string, fallback: number): number {
    const v = this.#values[name];
    return v === undefined ? fallback : parseSize(v, name);
  }
  flag(name: string, fallback = false): boolean {
    const v = this.#values[name];
    if (v === undefined) return fallback;
    if (v === 'on' || v === 'yes' || v === 'true' || v === 'y') return true;
    if (v === 'off' || v === 'no' || v === 'false' || v === 'n') return false;
    throw usage(`${this.format} option ${name}: "${v}" is not on or off`);
  }
}
