/**
 * The memory shared by HttpSource and its worker.  `control`: [state, error length]; `data`: the answer's bytes, or the
 * error as JSON.  The reader waits on `state` with Atomics.wait, so the answer must come through here, not as a message.
 */
export const IDLE = 0;
export const DONE = 1;
export const FAILED = 2;

export interface HttpOpen {
  readonly kind: 'open';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly control: SharedArrayBuffer;
  readonly data: SharedArrayBuffer;
}
export interface HttpRead {
  readonly kind: 'read';
  /** Parts to fetch in parallel, each into its own place in `data`. */
  readonly parts: readonly { readonly offset: number; readonly length: number; readonly at: number }[];
}
export type HttpRequest = HttpOpen | HttpRead;

/** The answer to `open`, as JSON in `data`. */
export interface HttpOpened {
  readonly size: number;
  readonly validator?: string;
}
export interface HttpFailure {
  readonly code: string;
  readonly message: string;
}
