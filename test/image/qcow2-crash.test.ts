import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemorySource } from '../../lib/block/memory.js';
import type { ResizableSource } from '../../lib/block/source.js';
import { createQcow2 } from '../../lib/image/qcow2/create.js';
import { Qcow2Image, WritableQcow2Image } from '../../lib/image/qcow2/index.js';
import { hasTool } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { below, qemuCheck, random } from './qcow2-helpers.js';

const dir = temporaryFolder();
const SIZE = 512 * 1024;
const context = {
  openReference: () => {
    throw new Error('nothing is referred to');
  },
};

type Change = { readonly at: number; readonly bytes: Uint8Array } | { readonly size: number };
/** A file in memory that remembers each change. */
class Logged extends MemorySource implements ResizableSource {
  readonly log: Change[] = [];
  override write(from: Uint8Array, offset: number): void {
    this.log.push({ at: offset, bytes: from.slice() });
    super.write(from, offset);
  }
  override zero(offset: number, length: number): void {
    this.write(new Uint8Array(length), offset);
  }
  discard(offset: number, length: number): void {
    // A host that punches holes at once is the worst case: what is freed is gone.
    this.zero(offset, Math.min(length, this.size - offset));
  }
  override resize(size: number): void {
    this.log?.push({ size });
    super.resize(size);
  }
}

/** Every prefix of the changes, as a file. */
function* prefixes(start: Uint8Array, log: readonly Change[]): Generator<Uint8Array> {
  const f = new MemorySource(start.slice());
  yield f.bytes;
  for (const c of log) {
    if ('size' in c) f.resize(c.size);
    else f.write(c.bytes, c.at);
    yield f.bytes;
  }
}

const CASES: Readonly<Record<string, Record<string, string>>> = {
  'small clusters': { cluster_size: '512' },
  '1-bit counts': { cluster_size: '512', refcount_bits: '1' },
  '64-bit counts: the refcount table grows': { cluster_size: '512', refcount_bits: '64' },
  '4 KiB clusters': { cluster_size: '4k' },
  subclusters: { cluster_size: '16k', extended_l2: 'on' },
  'version 2': { cluster_size: '4k', compat: '0.10' },
};

describe('a crash after any write leaves an image without corruption, with old or new bytes', () => {
  for (const [name, settings] of Object.entries(CASES))
    it(name, () => {
      const empty = new MemorySource(0);
      createQcow2(empty, { size: SIZE, settings }, { createSibling: () => new MemorySource(0) });
      const start = empty.bytes.slice();
      const file = new Logged(start.slice());
      const image = new WritableQcow2Image(file, { ...context, writable: true });
      const r = random(name.length * 31);
      // What each byte may be: all values it had so far.
      const value = new Uint8Array(SIZE);
      const seen = Array.from({ length: SIZE / 512 }, () => new Set([0]));
      for (let i = 0; i < 40; i++) {
        const at = below(r, SIZE / 512) * 512;
        const n = Math.min(SIZE - at, (1 + below(r, 60)) * 512);
        const kind = below(r, 7);
        if (kind < 4) {
          value.fill(i + 1, at, at + n);
          for (let k = at / 512; k < (at + n) / 512; k++) seen[k]!.add(i + 1);
          image.write(new Uint8Array(n).fill(i + 1), at);
        } else if (kind < 5) {
          for (let k = at / 512; k < (at + n) / 512; k++) seen[k]!.add(0);
          image.zero(at, n);
        } else if (kind < 6) image.discard(at, n);
        else image.flush();
      }
      image.close();
      let count = 0;
      for (const bytes of prefixes(start, file.log)) {
        count++;
        const back = new Qcow2Image(new MemorySource(bytes), { ...context, writable: false });
        const result = back.check();
        expect(result.corruptions, `${name}, after ${count - 1} writes: ${result.problems[0]?.message}`).toBe(0);
        if (count % 7 === 0) {
          const b = new Uint8Array(SIZE);
          back.read(b, 0);
          for (let k = 0; k < SIZE / 512; k++)
            expect(seen[k]!.has(b[k * 512]!), `sector ${k} after ${count - 1} writes is ${b[k * 512]}`).toBe(true);
        }
        if (count % 97 === 0 && hasTool('qemu-img')) {
          const path = join(dir, 'prefix.qcow2');
          writeFileSync(path, bytes);
          expect(qemuCheck(path).corruptions).toBe(0);
        }
      }
      expect(count).toBeGreaterThan(20);
    });

  it('snapshots and growth leave the guest its bytes after any write', () => {
    const empty = new MemorySource(0);
    createQcow2(empty, { size: SIZE, settings: { cluster_size: '4k' } }, { createSibling: () => new MemorySource(0) });
    const prepared = new WritableQcow2Image(empty, { ...context, writable: true });
    const data = new Uint8Array(SIZE / 2).fill(0x5a);
    prepared.write(data, 0);
    prepared.createSnapshot('old');
    prepared.close();
    const start = empty.bytes.slice();
    const file = new Logged(start.slice());
    const image = new WritableQcow2Image(file, { ...context, writable: true });
    image.createSnapshot('new');
    image.deleteSnapshot('old');
    image.resize(SIZE * 64);
    image.applySnapshot('new');
    image.deleteSnapshot('new');
    image.close();
    let count = 0;
    for (const bytes of prefixes(start, file.log)) {
      count++;
      const back = new Qcow2Image(new MemorySource(bytes), { ...context, writable: false });
      const b = new Uint8Array(SIZE / 2);
      back.read(b, 0);
      expect(Buffer.compare(b, data), `after ${count - 1} writes`).toBe(0);
      // Flags that are stale on the safe side are all that may be found.
      const bad = back.check().problems.filter((p) => p.kind === 'corruption' && !/the flag for "one" is clear/.test(p.message));
      expect(bad, `after ${count - 1} writes`).toEqual([]);
      for (const s of back.snapshots) {
        back.openSnapshot(s.id).read(b, 0);
        expect(Buffer.compare(b, data)).toBe(0);
      }
    }
    expect(count).toBeGreaterThan(10);
  });
});
