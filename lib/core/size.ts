import { usage } from './errors.js';

const UNITS: Readonly<Record<string, number>> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50, e: 2 ** 60 };

/** "10G", "1.5M", "512", "4k" (as qemu-img reads them: powers of 1024, no suffix is bytes) in bytes. */
export function parseSize(text: string, what = 'size'): number {
  const m = /^([0-9]+(?:\.[0-9]+)?|0x[0-9a-fA-F]+)([bkmgtpe]?)(?:i?b)?$/i.exec(text.trim());
  const n = m === null ? Number.NaN : Math.floor(Number(m[1]) * (UNITS[m[2]!.toLowerCase()] ?? 1));
  if (!Number.isSafeInteger(n))
    throw usage(`${what}: "${text}" is not a size (expected a number with b, k, M, G or T, such as 10G)`);
  return n;
}

/**
 * Powers of 1024, rounded to the nearest, one decimal below ten: "1.5G", "20K", "512".  As the virt tools print it; df
 * and ls of coreutils round up.
 */
export function humanSize(bytes: number): string {
  if (bytes < 1024) return `${bytes}`;
  let n = bytes;
  let u = 0;
  for (; n >= 1024 && u < 6; u++) n /= 1024;
  if (Math.round(n) >= 1024 && u < 6) {
    n /= 1024;
    u++;
  }
  const tenth = Math.round(n * 10) / 10;
  return `${tenth < 10 ? tenth.toFixed(1) : Math.round(n)}${'KMGTPE'[u - 1]}`;
}
