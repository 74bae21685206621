import { constants, fchmodSync, openSync, realpathSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { openFileWritable, WritableFileSource } from '../../block/file.js';
import type { ResizableSource } from '../../block/source.js';
import { fromSystem, GuestError } from '../../core/errors.js';
import { lockImage } from '../../image/lock.js';
import type { SourceOpener } from '../../image/open.js';

/** A file that need not be on stable storage while it is made: it is thrown away when the job fails. */
class LazyFile extends WritableFileSource {
  override flush(): void {}
  sync(): void {
    super.flush();
  }
}

interface Staged {
  readonly file: LazyFile;
  readonly temporary: string;
  readonly path: string;
}

/**
 * The files of a new image.  They are made under temporary names in the target's folder and renamed by `finish`, so that
 * a job that fails leaves the target as it was.  Devices, and files in a folder we may not write to, are written in place.
 */
export class StagedOutput {
  readonly file: WritableFileSource;
  readonly #staged: Staged[] = [];
  readonly #inPlace: LazyFile | undefined;
  #open = true;

  constructor(readonly path: string) {
    const old = existing(path);
    if (old !== undefined && !old.regular) {
      this.#inPlace = new LazyFile(openFileWritable(path).fd, path);
      this.file = this.#inPlace;
      return;
    }
    if (old !== undefined) refuseInUse(old.path);
    const staged = this.#stage(old?.path ?? path, old);
    if (staged !== undefined) this.file = staged.file;
    else {
      this.#inPlace = new LazyFile(openFileWritable(path).fd, path);
      this.file = this.#inPlace;
    }
  }

  #stage(path: string, old: { readonly mode: number } | undefined): Staged | undefined {
    const temporary = join(dirname(path), `.${basename(path).slice(0, 200)}.${process.pid}.partial`);
    let fd: number;
    try {
      fd = openSync(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o644);
    } catch (e) {
      const { code } = e as NodeJS.ErrnoException;
      if (old !== undefined && (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')) return undefined;
      throw fromSystem(e, { path, op: 'create' });
    }
    if (old !== undefined) fchmodSync(fd, old.mode & 0o7777);
    const staged = { file: new LazyFile(fd, temporary, { label: path }), temporary, path };
    this.#staged.push(staged);
    return staged;
  }

  /** A further file of the image, by the name that the image has for it. */
  readonly createSibling = (name: string): ResizableSource => {
    const path = resolve(dirname(this.path), name);
    const old = existing(path);
    if (old !== undefined && !old.regular) return openFileWritable(path);
    if (old !== undefined) refuseInUse(old.path);
    const staged = this.#stage(old?.path ?? path, old);
    if (staged === undefined) return openFileWritable(path);
    // Formats close what they made; this one is opened again by `opener`, and renamed at the end.
    return new LazyFile(openSync(staged.temporary, constants.O_RDWR), path);
  };

  /** For opening the unfinished image: its references lead to the temporary files. */
  readonly opener: SourceOpener = (name) => {
    const staged = this.#staged.find((s) => s.path === resolve(name) || s.path === name);
    return staged === undefined
      ? undefined
      : new LazyFile(openSync(staged.temporary, constants.O_RDWR), staged.temporary, { label: staged.path });
  };

  /** Gives the files their names; `sync` puts them on stable storage before. */
  finish(sync: boolean): void {
    if (sync) {
      this.#inPlace?.sync();
      for (const s of this.#staged) s.file.sync();
    }
    this.#close();
    // The image itself comes last: what it refers to is there when it appears.
    while (this.#staged.length > 0) {
      const s = this.#staged[this.#staged.length - 1]!;
      try {
        renameSync(s.temporary, s.path);
      } catch (e) {
        throw fromSystem(e, { path: s.path, op: 'rename' });
      }
      this.#staged.pop();
    }
  }

  /** Removes what was made. */
  discard(): void {
    this.#close();
    for (const s of this.#staged.splice(0))
      try {
        unlinkSync(s.temporary);
      } catch {
        // gone already
      }
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#inPlace?.close();
    for (const s of this.#staged) s.file.close();
  }
}

function existing(path: string): { readonly regular: boolean; readonly mode: number; readonly path: string } | undefined {
  try {
    const st = statSync(path);
    if (st.isDirectory()) throw new GuestError('is-a-directory', 'is a directory', { path });
    return { regular: st.isFile(), mode: st.mode, path: realpathSync(path) };
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fromSystem(e, { path, op: 'stat' });
  }
}

/** Someone may be running from the file that would be replaced. */
function refuseInUse(path: string): void {
  let file: WritableFileSource;
  try {
    file = openFileWritable(path);
  } catch (e) {
    throw fromSystem(e, { path, op: 'open' });
  }
  try {
    lockImage(file.fd, path, { writable: true, raw: true });
  } finally {
    file.close();
  }
}
