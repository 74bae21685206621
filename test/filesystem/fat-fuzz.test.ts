import { describe } from 'vitest';
import { fuzz } from '../fuzz/fat.fuzz.js';
import { itNeeds } from '../helpers/needs.js';

describe('FAT on damaged images', () => {
  itNeeds('mkfs.vfat', 'mcopy', 'mmd')(
    'gives an answer or an error of ours, whatever bytes are changed',
    () => fuzz(600, 1),
    30_000,
  );
});
