import { expect, it } from 'vitest';

const name = process.env['FUZZ_DRIVER'] ?? '';

it(`${name} survives damage`, async () => {
  const { fuzz } = (await import(`./${name}.fuzz.ts`)) as { fuzz(iterations: number, seed: number): void | Promise<void> };
  await fuzz(Number(process.env['FUZZ_ITERATIONS']), Number(process.env['FUZZ_SEED']));
  // Memory is part of the promise: what an image can make us hold is bounded.
  expect(process.memoryUsage().rss).toBeLessThan(1.5 * 2 ** 30);
});
