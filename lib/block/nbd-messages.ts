/**
 * The memory shared by NbdSource and its worker, in slots that are used side by side.  `control`: [state, answer's length]
 * for each slot; `data`, a part for each: bytes of reads and writes, block status as pairs of doubles, or the answer as
 * JSON.  The reader waits on `state` with Atomics.wait.
 */
export const IDLE = 0;
export const DONE = 1;
export const FAILED = 2;

/** Two take turns in reading ahead, the third is for everything else. */
export const SLOTS = 3;
export const ANSWER_SLOT = 2;

export interface NbdPart {
  readonly offset: number;
  readonly length: number;
  /** Place in `data`. */
  readonly at: number;
}
export type NbdMessage = { readonly slot: number } & NbdRequest;
export type NbdRequest =
  | {
      readonly kind: 'open';
      readonly uri: string;
      readonly writable: boolean;
      readonly timeoutMs: number;
      readonly control: SharedArrayBuffer;
      readonly data: SharedArrayBuffer;
    }
  | { readonly kind: 'read' | 'write'; readonly parts: readonly NbdPart[] }
  | { readonly kind: 'status' | 'zero' | 'trim'; readonly offset: number; readonly length: number }
  | { readonly kind: 'flush' | 'close' };

/** The answer to `open`. */
export interface NbdOpened {
  readonly size: number;
  readonly flags: number;
  readonly minimumBlock: number;
  readonly maximumBlock: number;
  /** Block status can be asked for. */
  readonly status: boolean;
}
export interface NbdFailure {
  readonly code: string;
  readonly message: string;
  readonly where: Readonly<Record<string, string | number>>;
}
