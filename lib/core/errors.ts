/** What went wrong, in a small closed set that callers may switch on. */
export type ErrorCode =
  | 'wrong-format' // not this format at all: the next driver may try
  | 'corrupt' // this format, but the bytes contradict themselves
  | 'unsupported' // valid, but not readable or writable here
  | 'not-found'
  | 'exists'
  | 'not-a-directory'
  | 'is-a-directory'
  | 'not-a-symlink'
  | 'symlink-loop'
  | 'read-only'
  | 'no-space'
  | 'needs-key'
  | 'in-use'
  | 'denied' // our own policy refused, for instance a backing file outside the image's folder
  | 'io' // the host refused: see errno
  | 'usage' // the caller's mistake
  | 'no-kvm'
  | 'appliance'
  | 'cancelled'
  | 'internal';

/** Where it happened.  Every field is optional; each layer adds what only it knows. */
export interface Where {
  path?: string;
  device?: string;
  offset?: number;
  op?: string;
  errno?: string;
}

/** The one error class of guestwright: a stable code, a message that is one line, where it happened, and the cause. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly where: Where = {},
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

export const corrupt = (message: string, where?: Where) => new GuestError('corrupt', message, where);
export const unsupported = (message: string, where?: Where) => new GuestError('unsupported', message, where);
export const usage = (message: string) => new GuestError('usage', message);
export const internal = (message: string) => new GuestError('internal', `internal error: ${message}`);
export const hex = (n: number | bigint) => `0x${n.toString(16)}`;

/** A Node system error (ENOENT, EACCES, …) as ours; anything else is passed through. */
export function fromSystem(e: unknown, where: Where): unknown {
  if (e instanceof GuestError || !(e instanceof Error)) return e;
  const errno = (e as NodeJS.ErrnoException).code;
  if (typeof errno !== 'string') return e;
  const code: ErrorCode =
    errno === 'ENOENT'
      ? 'not-found'
      : errno === 'EEXIST'
        ? 'exists'
        : errno === 'ENOTDIR'
          ? 'not-a-directory'
          : errno === 'EISDIR'
            ? 'is-a-directory'
            : errno === 'ENOSPC'
              ? 'no-space'
              : errno === 'EROFS'
                ? 'read-only'
                : 'io';
  return new GuestError(code, SYSTEM[errno] ?? e.message, { errno, ...where });
}

const SYSTEM: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EEXIST: 'file exists',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  ENOSPC: 'no space left on device',
  EROFS: 'read-only file system',
  EIO: 'input/output error',
  EMFILE: 'too many open files',
  ELOOP: 'too many levels of symbolic links',
  ENAMETOOLONG: 'file name too long',
  ETXTBSY: 'text file busy',
  EFBIG: 'file too large',
  EDQUOT: 'disk quota exceeded',
};

/** Runs `body`; a GuestError that leaves it carries `where` too (inner facts win), a system error becomes a GuestError. */
export function within<T>(where: Where, body: () => T): T {
  try {
    return body();
  } catch (e) {
    if (e instanceof GuestError) {
      Object.assign(e.where, { ...where, ...e.where });
      throw e;
    }
    throw fromSystem(e, where);
  }
}

/** One line for a person: "disk.qcow2: L2 table at 0x50000 is past the end of the file (size 0x40000)". */
export function explain(e: unknown): string {
  if (!(e instanceof Error)) return String(e);
  const parts: string[] = [];
  for (let x: unknown = e; x instanceof Error; x = x.cause) {
    const w = x instanceof GuestError ? x.where : {};
    const subject = [w.path, w.device].filter(Boolean).join(': ');
    const message = x instanceof GuestError ? x.message : x.message || x.name;
    parts.push(subject && !parts.some((p) => p.startsWith(subject)) ? `${subject}: ${message}` : message);
  }
  return parts.join(': ');
}
