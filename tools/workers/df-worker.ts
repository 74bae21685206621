import { parentPort } from 'node:worker_threads';
import { type DiskSpec, GuestError } from '../../lib/index.js';
import { usageOf } from '../shared/df.js';

/** One guest a message; the answer is the result, or the error as plain data. */
parentPort!.on('message', (m: { readonly name: string; readonly disks: readonly DiskSpec[] }) => {
  try {
    parentPort!.postMessage({ result: usageOf(m.name, m.disks) });
  } catch (e) {
    const known = e instanceof GuestError;
    parentPort!.postMessage({
      error: {
        code: known ? e.code : 'internal',
        message: e instanceof Error ? e.message : String(e),
        where: known ? e.where : {},
      },
    });
  }
});
