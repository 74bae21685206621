import type { BlockSource } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';

/** What a client may ask about ranges: allocation, depth in the backing chain, dirty bitmaps. */
export interface MetaContext {
  /** "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:NAME". */
  readonly name: string;
  /** The first run at `offset`: at least 1 and at most `length` bytes that share their flags. */
  status(offset: number, length: number): { readonly length: number; readonly flags: number };
}

/** One disk that a server offers. */
export interface NbdExport {
  readonly name: string;
  readonly description?: string | undefined;
  readonly source: BlockSource;
  readonly readOnly: boolean;
  readonly contexts: readonly MetaContext[];
  /** Zeroing is always faster than writing zeroes. */
  readonly fastZero?: boolean;
  /** Trim requests are passed on. */
  readonly discard?: boolean;
  /** Every write is on stable storage before it is answered (cache=writethrough). */
  readonly writeThrough?: boolean;
  /** More than one client may be connected: a flush on one connection then covers all of them. */
  readonly multiConn?: boolean;
  /** Bytes; 1 unless said. */
  readonly minimumBlock?: number;
  readonly preferredBlock?: number;
}

/** An error's number for the wire. */
export function errnoOf(e: unknown): number {
  if (!(e instanceof GuestError)) return 5;
  switch (e.where.errno) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return 28;
    case 'EPERM':
    case 'EACCES':
      return 1;
  }
  switch (e.code) {
    case 'no-space':
      return 28;
    case 'read-only':
    case 'denied':
      return 1;
    case 'usage':
      return 22;
    default:
      return 5;
  }
}
