import { defineConfig } from 'vitest/config';

/** For `npm run fuzz`: one driver, for as long as it takes. */
export default defineConfig({ test: { include: ['test/fuzz/run.ts'], testTimeout: 24 * 3600_000, hookTimeout: 600_000 } });
