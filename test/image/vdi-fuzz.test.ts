import { it } from 'vitest';
import { fuzz } from '../fuzz/vdi.fuzz.js';

it('answers 300 mutated vdi images with results or our own errors, never slowly', () => {
  fuzz(300, 20261124);
});
