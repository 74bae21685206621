import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A temporary folder that goes when the test file is done. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'guestwright-test-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
