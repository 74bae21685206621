import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, GuestError, type Where } from '../../lib/index.js';

export const cores = (): number => availableParallelism();

type Answer<R> =
  | { readonly result: R }
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly where: Where } };

/**
 * Sends each item to one of at most `threads` workers and gives the answers in the order of the items, each as soon as
 * it and all before it are there.  An item whose worker fails gives a GuestError.
 */
export async function* inWorkers<T, R>(file: URL, items: readonly T[], threads: number): AsyncGenerator<R | GuestError> {
  const answers = items.map(() => {
    let resolve!: (r: R | GuestError) => void;
    const promise = new Promise<R | GuestError>((done) => {
      resolve = done;
    });
    return { promise, resolve };
  });
  let next = 0;
  const workers = Array.from({ length: Math.min(threads, items.length) }, () => {
    const worker = new Worker(file);
    let current = -1;
    const more = () => {
      if (next >= items.length) return void worker.terminate();
      current = next++;
      worker.postMessage(items[current]);
    };
    worker.on('message', (a: Answer<R>) => {
      answers[current]!.resolve('result' in a ? a.result : new GuestError(a.error.code, a.error.message, a.error.where));
      more();
    });
    worker.on('error', (e) => {
      answers[current]?.resolve(new GuestError('internal', `internal error: ${e.message}`));
      // The others take what is left.
    });
    more();
    return worker;
  });
  try {
    for (const a of answers) yield await a.promise;
  } finally {
    for (const w of workers) void w.terminate();
  }
}
