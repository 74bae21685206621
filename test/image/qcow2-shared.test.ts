import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { GuestError } from '../../lib/core/errors.js';
import type { Image } from '../../lib/image/format.js';
import { openImage } from '../../lib/image/open.js';
import { skipBecause } from '../helpers/needs.js';
import { hasSharedData, noSharedData, type SharedEntry, sharedEntries, sharedFile } from '../helpers/shared-data.js';

function contents(image: Image): string {
  const h = createHash('sha256');
  const b = new Uint8Array(1 << 20);
  const zeroes = new Uint8Array(1 << 20);
  for (let at = 0; at < image.size; ) {
    const run = image.map(at, Math.min(b.length, image.size - at));
    if (run.kind === 'zero') h.update(zeroes.subarray(0, run.length));
    else {
      image.read(b.subarray(0, run.length), at);
      h.update(b.subarray(0, run.length));
    }
    at += run.length;
  }
  return h.digest('hex');
}

/** Only the keys of `expected` are compared: what newer QEMUs add is not ours to answer for. */
const factsOf = (e: SharedEntry) => e.expected?.image ?? e.expected;

if (!hasSharedData()) skipBecause(noSharedData)('reads the shared qcow2 images', () => {});
else {
  const good = sharedEntries().filter((e) => e.kind === 'qcow2' && !e.bad);
  describe('shared qcow2 images', () => {
    for (const e of good) {
      const facts = factsOf(e);
      const secret = e.name.includes('luks') ? { secret: () => new TextEncoder().encode(passphraseOf(e)) } : {};
      it(`${e.name}: same contents, facts and extents as QEMU saw`, () => {
        const image = openImage(sharedFile(e.name), { ...secret });
        const info = image.describe();
        const want = facts?.info;
        if (want !== undefined) {
          expect(image.size).toBe(want['virtual-size']);
          expect(info.clusterSize).toBe(want['cluster-size']);
          expect(info.specific).toMatchObject(want['format-specific'].data);
          expect(info.dirty).toBe(want['dirty-flag']);
          expect(info.snapshots.map((s) => s.name)).toEqual((want.snapshots ?? []).map((s: { name: string }) => s.name));
        }
        const raw = facts?.raw_content;
        if (raw?.sha256 !== undefined && image.size <= 1 << 30) expect(contents(image)).toBe(raw.sha256);
        image.close();
      });
    }
  });
  const passphraseOf = (e: SharedEntry): string => {
    const text = JSON.stringify(e.expected);
    return /"pass(?:phrase|word)":\s*"([^"]+)"/.exec(text)?.[1] ?? '';
  };
  describe('shared damaged qcow2 images', () => {
    for (const e of sharedEntries().filter((x) => x.kind === 'qcow2' && x.bad)) {
      it(`${e.name}: a typed error or a safe result`, () => {
        const path = sharedFile(e.name);
        for (const forCheck of [false, true]) {
          try {
            const image = openImage(path, { forCheck, references: 'same-folder' });
            image.describe();
            const b = new Uint8Array(65536);
            for (let at = 0; at < Math.min(image.size, 64 << 20); at += b.length) {
              try {
                image.read(b.subarray(0, Math.min(b.length, image.size - at)), at);
              } catch (x) {
                expect(x).toBeInstanceOf(GuestError);
              }
            }
            image.check?.();
            image.close();
          } catch (x) {
            if (!(x instanceof GuestError)) throw x;
          }
        }
      });
    }
  });
}
