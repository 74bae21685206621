import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/qcow2.fuzz.js';

it('mutated images give nothing but typed errors', () => {
  expect(() => fuzz(1500, 20240607)).not.toThrow();
});
