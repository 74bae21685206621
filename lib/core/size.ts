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

/** df -h style: powers of 1024, one decimal below ten, rounded up as coreutils does: "1.5G", "20K", "512". */
export function humanSize(bytes: number): string {
  if (bytes < 1024) return `${bytes}`;
  let n = bytes;
  let u = 0;
  for (; n >= 1024 && u < 6; u++) n /= 1024;
  const r = n < 10 ? Math.ceil(n * 10) / 10 : Math.ceil(n);
  if (r >= 1024) return `1.0${'KMGTPE'[u] ?? ''}`;
  return `${n < 10 && r < 10 ? r.toFixed(1) : Math.ceil(r)}${'KMGTPE'[u - 1]}`;
}
