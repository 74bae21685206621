import { createHash } from 'node:crypto';
import type { BillPackage } from './model.js';

/** RFC 3339 in whole seconds, as both formats want it. */
export const timestamp = (d: Date): string => d.toISOString().replace(/\.\d{3}Z$/, 'Z');

/** A UUID (version 8: made by us) that is the same for the same contents. */
export function contentUuid(document: unknown): string {
  const h = createHash('sha256').update(JSON.stringify(document)).digest();
  h[6] = (h[6]! & 0x0f) | 0x80;
  h[8] = (h[8]! & 0x3f) | 0x80;
  const s = h.toString('hex');
  return `${s.slice(0, 8)}-${s.slice(8, 12)}-${s.slice(12, 16)}-${s.slice(16, 20)}-${s.slice(20, 32)}`;
}

/** A package's page where it is a web address; databases hold all kinds of things there. */
export function webAddress(url: string | undefined): string | undefined {
  const u = url?.trim();
  return u !== undefined && /^(?:https?|ftp):\/\/[\x21-\x7e]+$/i.test(u) && !/["<>\\^`{|}]/.test(u) && URL.canParse(u)
    ? u
    : undefined;
}

/** Text of a guest without control characters and lone surrogates, which JSON carries but readers stumble over. */
export const clean = (s: string): string => s.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]/gu, '\ufffd');

/** A reference for each package, the same for every run: its URL, with a number where one is installed twice. */
export function references(packages: readonly BillPackage[]): readonly string[] {
  const seen = new Map<string, number>();
  return packages.map((p) => {
    const n = (seen.get(p.purl) ?? 0) + 1;
    seen.set(p.purl, n);
    return n === 1 ? p.purl : `${p.purl}#${n}`;
  });
}
