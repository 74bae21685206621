import { GuestError } from '../../lib/index.js';

/**
 * Runs a long synchronous job piece by piece and lets the event loop have a turn every 50 ms, so that Ctrl-C is seen
 * between pieces: the job then ends with an error, its caller removes what is half done, and the status is 130.
 */
export async function untilInterrupted<T>(pieces: Iterable<T>, each: (piece: T) => void): Promise<void> {
  let signal: NodeJS.Signals | undefined;
  const stop = (s: NodeJS.Signals) => {
    signal = s;
  };
  for (const s of SIGNALS) process.on(s, stop);
  try {
    let last = Date.now();
    for (const piece of pieces) {
      each(piece);
      const now = Date.now();
      if (now - last < 50) continue;
      last = now;
      await new Promise<void>((done) => setImmediate(done));
      if (signal !== undefined) throw new GuestError('cancelled', `interrupted by ${signal}`);
    }
  } finally {
    for (const s of SIGNALS) process.off(s, stop);
  }
}
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
