import { fstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { ofdLock, ofdLockTest } from '../addon/sysio.js';
import { GuestError } from '../core/errors.js';

/**
 * QEMU's image locks (its block/file-posix.c): a user of an image holds shared locks on byte 100+n for each permission it
 * uses, and on byte 200+n for each permission it does not let others use.
 */
const USED = 100;
const UNSHARED = 200;
const PERMISSIONS = ['consistent read', 'write', 'write unchanged', 'resize'] as const;
const READ = 0;
const WRITE = 1;
const RESIZE = 3;

export interface LockWish {
  readonly writable: boolean;
  /** Raw images may change under a reader; all others may not, because their metadata would. */
  readonly raw: boolean;
}

/** Takes the locks for as long as `fd` is open, or says who is in the way. */
export function lockImage(fd: number, path: string, wish: LockWish): void {
  const used = wish.writable ? [READ, WRITE, RESIZE] : [READ];
  const unshared = wish.writable || !wish.raw ? [WRITE, RESIZE] : [];
  const taken: number[] = [];
  const release = () => {
    for (const at of taken) ofdLock(fd, 'unlock', at, 1);
  };
  for (const at of [...used.map((p) => USED + p), ...unshared.map((p) => UNSHARED + p)]) {
    ofdLock(fd, 'read', at, 1);
    taken.push(at);
  }
  const test = (at: number, permission: number): void => {
    const holder = ofdLockTest(fd, 'write', at, 1);
    if (holder === undefined) return;
    release();
    const who = holderName(fd, holder);
    throw new GuestError('in-use', `in use by ${who} (the "${PERMISSIONS[permission]}" lock is refused)`, { path });
  };
  for (const p of used) test(UNSHARED + p, p);
  for (const p of unshared) test(USED + p, p);
}

/** "qemu-system-x86 (pid 123)": the kernel does not tell who holds an open-file-description lock, /proc does. */
function holderName(fd: number, pid: number): string {
  const found = pid > 0 ? pid : findHolder(fd);
  if (found === undefined) return 'another process';
  try {
    return `${readFileSync(`/proc/${found}/comm`, 'utf8').trim()} (pid ${found})`;
  } catch {
    return `pid ${found}`;
  }
}

function findHolder(fd: number): number | undefined {
  const me = fstatSync(fd);
  let own: number | undefined;
  try {
    for (const name of readdirSync('/proc')) {
      if (!/^[0-9]+$/.test(name)) continue;
      let fds: string[];
      try {
        fds = readdirSync(`/proc/${name}/fd`);
      } catch {
        continue;
      }
      for (const n of fds) {
        if (name === `${process.pid}` && n === `${fd}`) continue;
        try {
          const link = `/proc/${name}/fd/${n}`;
          if (!readlinkSync(link).startsWith('/')) continue;
          const st = statSync(link);
          if (st.ino !== me.ino || st.dev !== me.dev) continue;
          if (!readFileSync(`/proc/${name}/fdinfo/${n}`, 'utf8').includes('lock:')) continue;
          if (Number(name) !== process.pid) return Number(name);
          own = process.pid;
        } catch {
          // that file was closed meanwhile
        }
      }
    }
  } catch {
    // no /proc: the holder stays unnamed
  }
  return own;
}
