import { describe } from 'vitest';
import { fuzz } from '../fuzz/xfs.fuzz.js';
import { itNeeds } from '../helpers/needs.js';

describe('xfs on damaged images', () => {
  itNeeds('mkfs.xfs', 'xfs_db')('gives an answer or an error of ours, whatever bytes are changed', () => fuzz(200, 1), 30_000);
});
