import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fat } from '../../lib/filesystem/fat/index.js';
import { run } from '../helpers/needs.js';
import { fuzzFilesystem } from './filesystem-mutations.js';

let images: Uint8Array[] | undefined;
function seeds(): Uint8Array[] {
  if (images !== undefined) return images;
  images = [];
  const dir = mkdtempSync('/tmp/guestwright-fuzz-');
  try {
    writeFileSync(join(dir, 'a file with a long name'), new Uint8Array(30_000).fill(1));
    for (const [bits, size] of [
      ['12', '1M'],
      ['16', '5M'],
      ['32', '34M'],
    ] as const) {
      const image = join(dir, 'image');
      rmSync(image, { force: true });
      run('truncate', ['-s', size, image]);
      run('mkfs.vfat', ['-F', bits, '-s', '1', '-n', 'LABEL', image]);
      run('mmd', ['-i', image, '::D', '::D/E', '::D/E/a long directory']);
      for (const to of ['::', '::D', '::D/E/copy.txt', '::D/E/a long directory'])
        run('mcopy', ['-i', image, join(dir, 'a file with a long name'), to]);
      images.push(readFileSync(image));
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return images;
}

export function fuzz(iterations: number, seed: number): void {
  fuzzFilesystem(fat, seeds(), iterations, seed);
}
