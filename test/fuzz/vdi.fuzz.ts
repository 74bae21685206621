import { vdi } from '../../lib/image/vdi/index.js';
import { fuzzImages, type Seed, seedImage } from './image-mutations.js';

let seeds: readonly Seed[] | undefined;
export function fuzz(iterations: number, seed: number): void {
  seeds ??= [seedImage(vdi, 3 << 20), seedImage(vdi, 1 << 20, { static: 'on' })].map((bytes) => ({
    bytes,
    hot: [
      [0x40, 24],
      [0x154, 120],
      [0x200, 12],
    ],
  }));
  fuzzImages(vdi, seeds, iterations, seed);
}
