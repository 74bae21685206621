import { vmdk } from '../../lib/image/vmdk/index.js';
import { fuzzImages, type Seed, seedImage } from './image-mutations.js';

let seeds: readonly Seed[] | undefined;
function all(): readonly Seed[] {
  const size = 1 << 20;
  const text = `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 4 FLAT "a" 0\nRW 3 ZERO\nRW 4 VMFS "b"\n`;
  return [
    ...[{}, { zeroed_grain: 'on' }, { subformat: 'streamOptimized' }].map((settings) => {
      const bytes = seedImage(vmdk, size, settings);
      const header = [0, 79] as const;
      return { bytes, hot: [header, header, [512, 400], [21 * 512, 12 * 512], [bytes.length - 66000, 600]] as const };
    }),
    { bytes: Uint8Array.from(Buffer.from(text)), hot: [[0, text.length]] },
  ];
}
export function fuzz(iterations: number, seed: number): void {
  fuzzImages(vmdk, (seeds ??= all()), iterations, seed);
}
