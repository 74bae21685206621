import { it } from 'vitest';
import { fuzz } from '../fuzz/vmdk.fuzz.js';

it('answers 300 mutated vmdk images with results or our own errors, never slowly', () => {
  fuzz(300, 20261124);
});
