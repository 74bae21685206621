import { describe } from 'vitest';
import { fuzz } from '../fuzz/ext.fuzz.js';
import { itNeeds } from '../helpers/needs.js';

describe('ext on damaged images', () => {
  itNeeds('mke2fs')('gives an answer or an error of ours, whatever bytes are changed', () => fuzz(600, 1), 30_000);
});
