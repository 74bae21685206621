import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ext } from '../../lib/filesystem/ext/index.js';
import { hasTool, run } from '../helpers/needs.js';
import { hasSharedData, sharedFile } from '../helpers/shared-data.js';
import { fuzzFilesystem } from './filesystem-mutations.js';

/** Checksums are off where they would only hide what lies behind them; one image keeps them. */
const FORMATS: readonly (readonly string[])[] = [
  ['-t', 'ext4', '-O', '^metadata_csum,^uninit_bg', '-b', '1024', '-N', '512'],
  ['-t', 'ext4', '-O', '^metadata_csum,inline_data,ea_inode', '-b', '1024', '-I', '256', '-N', '512'],
  ['-t', 'ext2', '-b', '1024', '-N', '512'],
  ['-t', 'ext4', '-b', '1024', '-N', '512'],
];

let images: Uint8Array[] | undefined;
function seeds(): Uint8Array[] {
  if (images !== undefined) return images;
  images = [];
  const dir = mkdtempSync('/tmp/guestwright-fuzz-');
  try {
    const tree = join(dir, 'tree');
    mkdirSync(join(tree, 'many'), { recursive: true });
    for (let i = 0; i < 120; i++) writeFileSync(join(tree, 'many', `a-name-that-takes-room-${i}`), '');
    writeFileSync(join(tree, 'file'), new Uint8Array(300_000).fill(7));
    writeFileSync(join(tree, 'tiny'), 'tiny');
    symlinkSync('s'.repeat(100), join(tree, 'slow'));
    symlinkSync('fast', join(tree, 'quick'));
    if (hasTool('setfattr')) run('setfattr', ['-n', 'user.big', '-v', 'v'.repeat(900), join(tree, 'file')]);
    for (const format of FORMATS) {
      const image = join(dir, 'image');
      rmSync(image, { force: true });
      run('truncate', ['-s', '4M', image]);
      run('mke2fs', ['-q', '-F', ...format, '-d', tree, image]);
      images.push(readFileSync(image));
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  // Journals that want to be replayed.
  if (hasSharedData())
    for (const name of ['bad/ext/e2-j_recover_fast_commit.img.zst', 'bad/ext/e2-f_jnl_64bit.img.zst'])
      images.push(readFileSync(sharedFile(name)));
  return images;
}

export function fuzz(iterations: number, seed: number): void {
  fuzzFilesystem(ext, seeds(), iterations, seed);
}
