import { vpc } from '../../lib/image/vpc/index.js';
import { checksumOf, DynamicHeader, Footer } from '../../lib/image/vpc/structs.js';
import { fuzzImages, type Seed, seedImage } from './image-mutations.js';

function repair(bytes: Uint8Array): void {
  for (const at of [0, bytes.length - 512]) {
    const footer = bytes.subarray(at, at + 512);
    Footer.at(footer).checksum = checksumOf(footer, Footer.offset.checksum);
  }
  if (bytes.length < 1536) return;
  const header = bytes.subarray(512, 1536);
  DynamicHeader.at(header).checksum = checksumOf(header, DynamicHeader.offset.checksum);
}

let seeds: readonly Seed[] | undefined;
function all(): readonly Seed[] {
  const dynamic = seedImage(vpc, 3 << 20);
  const differencing = dynamic.slice();
  Footer.at(differencing).diskType = 4;
  Footer.at(differencing, differencing.length - 512).diskType = 4;
  return [dynamic, differencing, seedImage(vpc, 100_000, { subformat: 'fixed' })].map((bytes) => ({
    bytes,
    repair,
    hot: [
      [0, 88],
      [512, 60],
      [512 + 576, 192],
      [1536, 512],
      [bytes.length - 512, 88],
    ],
  }));
}
export function fuzz(iterations: number, seed: number): void {
  fuzzImages(vpc, (seeds ??= all()), iterations, seed);
}
