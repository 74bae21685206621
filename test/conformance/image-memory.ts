import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MemorySource } from '../../lib/block/memory.js';
import { isWritable } from '../../lib/block/source.js';
import type { ImageFormat, WritableImage } from '../../lib/image/format.js';

/** A file in memory that remembers, in order, each change made to it. */
class Recorder extends MemorySource {
  readonly states: Uint8Array[] = [];
  recording = false;
  #note(): void {
    if (this.recording) this.states.push(this.bytes.slice());
  }
  override write(from: Uint8Array, offset: number): void {
    super.write(from, offset);
    this.#note();
  }
  override zero(offset: number, length: number): void {
    super.zero(offset, length);
    this.#note();
  }
  override resize(size: number): void {
    super.resize(size);
    this.#note();
  }
}

function openMemory(format: ImageFormat, file: MemorySource): WritableImage {
  const image = format.open(file, {
    writable: true,
    openReference: (r) => {
      throw new Error(`unexpected reference ${r.name}`);
    },
  });
  if (!isWritable(image)) throw new Error('opened without writing');
  return image as WritableImage;
}

/** Properties of formats that keep all in one file, checked in memory: no program is needed. */
export function imageProperties(format: ImageFormat, size: number, settings: Readonly<Record<string, string>> = {}): void {
  const name = `${format.name} ${JSON.stringify(settings)}`;
  const empty = (file: MemorySource) =>
    format.create!(
      file,
      { size, settings },
      {
        path: 'disk.img',
        createSibling: (n) => {
          throw new Error(`unexpected file ${n}`);
        },
      },
    );

  it(`${name}: any writes, zeroes and reopenings give what a flat buffer has`, () => {
    const op = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('write' as const),
          at: fc.nat(),
          length: fc.integer({ min: 1, max: 300_000 }),
          value: fc.nat(255),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('zero' as const),
          at: fc.nat(),
          length: fc.integer({ min: 1, max: 300_000 }),
          value: fc.constant(0),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('reopen' as const),
          at: fc.nat(),
          length: fc.constant(1),
          value: fc.constant(0),
        }),
      },
    );
    fc.assert(
      fc.property(fc.array(op, { minLength: 1, maxLength: 12 }), (ops) => {
        const file = new MemorySource(0);
        empty(file);
        let image = openMemory(format, file);
        const model = new Uint8Array(image.size);
        for (const o of ops) {
          const at = o.at % image.size;
          const n = Math.min(o.length, image.size - at);
          if (o.kind === 'reopen') {
            image.close();
            image = openMemory(format, file);
          } else if (o.kind === 'write') image.write(new Uint8Array(n).fill(o.value), at);
          else image.zero(at, n);
          model.fill(o.kind === 'reopen' ? model[at]! : o.value, at, at + n);
        }
        image.close();
        const again = openMemory(format, file);
        const back = new Uint8Array(again.size);
        again.read(back, 0);
        expect(Buffer.compare(back, model)).toBe(0);
        expect(again.check!().problems).toEqual([]);
      }),
      { numRuns: 15, seed: 5 },
    );
  });

  it(`${name}: a crash after any change of the file leaves an image without corruption, and older data as it was`, () => {
    const file = new Recorder(0);
    empty(file);
    const image = openMemory(format, file);
    image.write(new Uint8Array(5000).fill(1), 0);
    image.flush();
    file.recording = true;
    image.write(new Uint8Array(5000).fill(2), Math.floor(image.size / 2));
    image.flush();
    image.write(new Uint8Array(70_000).fill(3), image.size - 70_000);
    image.close();
    expect(file.states.length).toBeGreaterThan(3);
    for (const state of file.states) {
      const crashed = format.open(new MemorySource(state.slice()), {
        writable: false,
        openReference: (r) => {
          throw new Error(`unexpected reference ${r.name}`);
        },
      });
      const head = new Uint8Array(5000);
      crashed.read(head, 0);
      expect(head.every((x) => x === 1)).toBe(true);
      const later = new Uint8Array(5000);
      crashed.read(later, Math.floor(crashed.size / 2));
      // The block of that write is new: once the table has it, its bytes must be there.
      const wanted = crashed.extent(Math.floor(crashed.size / 2), 1).data ? 2 : 0;
      expect(later.every((x) => x === wanted)).toBe(true);
      expect(crashed.check!().corruptions).toBe(0);
    }
  });
}
