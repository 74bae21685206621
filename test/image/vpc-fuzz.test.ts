import { it } from 'vitest';
import { fuzz } from '../fuzz/vpc.fuzz.js';

it('answers 300 mutated vpc images with results or our own errors, never slowly', () => {
  fuzz(300, 20261124);
});
