import { it } from 'vitest';
import { fuzz } from '../fuzz/vhdx.fuzz.js';

it('answers 300 mutated vhdx images with results or our own errors, never slowly', () => {
  fuzz(300, 20261124);
});
