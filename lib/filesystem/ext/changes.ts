import type { Piece } from './blockmap.js';

/** A name that a fast commit added to a directory, or took away (inode 0). */
export interface NameChange {
  readonly ino: number;
  /** File type as in a directory entry. */
  readonly type: number;
}

/**
 * What replayed fast commits change beyond inode tables.  Directories and extent trees are not rewritten on the
 * overlay: their changes are kept here, and win over what is on disk.
 */
export class Changes {
  readonly names = new Map<number, Map<string, NameChange>>();
  /** All blocks of inodes whose ranges changed, sorted; what lies between is hole. */
  readonly blocks = new Map<number, readonly Piece[]>();
  /** Directories that a fast commit made: they have no block yet. */
  readonly madeDirectories = new Set<number>();

  name(directory: number, name: string, change: NameChange): void {
    let m = this.names.get(directory);
    if (m === undefined) this.names.set(directory, (m = new Map()));
    m.set(name, change);
  }
}
