/** How far a long job is.  `done` and `total` are in one unit, usually bytes. */
export interface Progress {
  report(done: number, total: number): void;
}
export const noProgress: Progress = { report() {} };
