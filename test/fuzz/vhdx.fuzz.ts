import { vhdx } from '../../lib/image/vhdx/index.js';
import { checksumOf, HEADERS, Header, LogEntry, MIB, REGION_TABLES } from '../../lib/image/vhdx/structs.js';
import { fuzzImages, type Seed, seedImage } from './image-mutations.js';

const set32 = (b: Uint8Array, at: number, v: number) => new DataView(b.buffer, b.byteOffset).setUint32(at, v, true);
function repair(bytes: Uint8Array): void {
  for (const at of HEADERS) set32(bytes, at + 4, checksumOf(bytes.subarray(at, at + 4096)));
  for (const at of REGION_TABLES) set32(bytes, at + 4, checksumOf(bytes.subarray(at, at + 65536)));
  const length = LogEntry.at(bytes, MIB).entryLength;
  if (length >= 4096 && length <= MIB) set32(bytes, MIB + 4, checksumOf(bytes.subarray(MIB, MIB + length)));
}

/** As a writer leaves it that stopped between its log entry and the change: one data and one zero descriptor. */
function withLog(bytes: Uint8Array): Uint8Array {
  const b = bytes.slice();
  const guid = new Uint8Array(16).fill(9);
  for (const at of HEADERS) Header.at(b, at).logGuid = guid;
  const entry = new Uint8Array(8192);
  entry.set(
    LogEntry.encode({
      signature: 0x65676f6c,
      entryLength: 8192,
      sequenceNumber: 5,
      descriptorCount: 2,
      logGuid: guid,
      flushedFileOffset: b.length,
      lastFileOffset: b.length,
    }),
  );
  const view = new DataView(entry.buffer);
  set32(entry, 64, 0x63736564);
  view.setBigUint64(64 + 16, BigInt(b.length - 4096), true);
  view.setBigUint64(64 + 24, 5n, true);
  set32(entry, 96, 0x6f72657a);
  view.setBigUint64(96 + 8, 4096n, true);
  view.setBigUint64(96 + 16, BigInt(b.length - 8192), true);
  view.setBigUint64(96 + 24, 5n, true);
  set32(entry, 4096, 0x61746164);
  set32(entry, 8188, 5);
  b.set(entry, MIB);
  repair(b);
  return b;
}

let seeds: readonly Seed[] | undefined;
function all(): readonly Seed[] {
  const plain = seedImage(vhdx, 3 << 20, { block_size: '1M' });
  const hot = [
    [HEADERS[0], 80],
    [HEADERS[1], 80],
    [REGION_TABLES[0], 80],
    [2 * MIB, 64],
    [3 * MIB, 200],
    [3 * MIB + 65536, 64],
  ] as const;
  return [
    { bytes: plain, hot, repair },
    { bytes: withLog(plain), hot: [...hot, [MIB, 200], [MIB, 200], [MIB + 4096, 16]], repair },
  ];
}
export function fuzz(iterations: number, seed: number): void {
  fuzzImages(vhdx, (seeds ??= all()), iterations, seed);
}
