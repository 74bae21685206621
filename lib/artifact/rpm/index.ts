import { explain, GuestError } from '../../core/errors.js';
import type { Package } from '../package.js';
import { isSqlite, SqliteDatabase } from '../sqlite/database.js';
import { bdbBlobs, isBdbHash } from './bdb.js';
import { isNdb, ndbBlobs } from './ndb.js';
import { rpmPackage } from './package.js';

/** The files in which rpm keeps its headers, newest kind first, and the companion that belongs to each. */
export const rpmDatabaseFiles: readonly { readonly name: string; readonly wal?: string }[] = [
  { name: 'rpmdb.sqlite', wal: 'rpmdb.sqlite-wal' },
  { name: 'Packages.db' },
  { name: 'Packages' },
];

/**
 * All packages of an rpm database, its kind found by its contents.  `wal` is the write-ahead log of an SQLite one.  Records
 * that cannot be read are left out and named in `problems`.
 */
export function rpmPackages(
  file: Uint8Array,
  options: { readonly wal?: Uint8Array; readonly problems?: string[] } = {},
): Package[] {
  const problems = options.problems ?? [];
  const out: Package[] = [];
  for (const blob of blobs(file, options.wal, problems)) {
    try {
      out.push(rpmPackage(blob));
    } catch (e) {
      if (!(e instanceof GuestError)) throw e;
      problems.push(explain(e));
    }
  }
  return out;
}

function* blobs(file: Uint8Array, wal: Uint8Array | undefined, problems: string[]): Generator<Uint8Array> {
  if (isNdb(file)) yield* ndbBlobs(file, problems);
  else if (isBdbHash(file)) yield* bdbBlobs(file, problems);
  else if (isSqlite(file) || (file.length === 0 && wal !== undefined)) {
    const db = new SqliteDatabase(file, wal);
    problems.push(...db.problems);
    for (const row of db.rows('Packages', problems)) {
      const blob = row.values[1];
      if (blob instanceof Uint8Array) yield blob;
      else problems.push(`Packages row ${row.id}: no blob`);
    }
  } else throw new GuestError('wrong-format', 'not an rpm database (tried ndb, Berkeley DB hash, SQLite)');
}
