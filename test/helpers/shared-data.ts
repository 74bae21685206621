import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

/** One image of the shared data set: see its README.  `expected` holds the facts to assert. */
export interface SharedEntry {
  readonly name: string;
  readonly kind: string;
  readonly tags?: readonly string[];
  readonly bad: boolean;
  readonly bytes: number;
  readonly compression: 'zstd' | null;
  readonly decoded_name?: string;
  readonly decoded_bytes?: number;
  readonly decoded_sha256?: string;
  readonly related?: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: facts of many tools, each with its own shape
  readonly expected?: any;
}

const ROOT = resolve(import.meta.dirname, '../../../shared/data');
let entries: readonly SharedEntry[] | undefined;

/** All entries, or an empty list where the data set is not beside the clone. */
export function sharedEntries(): readonly SharedEntry[] {
  entries ??= existsSync(join(ROOT, 'manifest.json'))
    ? (JSON.parse(readFileSync(join(ROOT, 'manifest.json'), 'utf8')).entries as SharedEntry[])
    : [];
  return entries;
}
export const hasSharedData = (): boolean => sharedEntries().length > 0;
export const noSharedData = 'the shared data set (../shared/data) is not beside this clone';

export const sharedEntry = (name: string): SharedEntry | undefined => sharedEntries().find((e) => e.name === name);

/**
 * The unpacked image of an entry (by name, such as "qcow2/made-v3.qcow2.zst"), under its decoded name, partners of a set
 * in one folder.  Unpacked once a machine, sparse, into the temporary folder; never changed by a test (copy it first).
 */
export function sharedFile(name: string): string {
  const e = sharedEntry(name);
  if (e === undefined) throw new Error(`${name} is not in the shared data set`);
  for (const partner of e.related ?? []) {
    const p = sharedEntries().find(
      (x) => x.name === partner || x.name === join(dirname(name), partner) || x.decoded_name === partner,
    );
    if (p !== undefined) unpack(p);
  }
  return unpack(e);
}

function unpack(e: SharedEntry): string {
  const folder = join(tmpdir(), 'guestwright-shared-data', dirname(e.name));
  const target = join(folder, basename(e.decoded_name ?? e.name));
  if (existsSync(target)) return target;
  mkdirSync(folder, { recursive: true });
  const partial = `${target}.${process.pid}`;
  const source = join(ROOT, e.name);
  if (e.compression === 'zstd') {
    const r = spawnSync('zstd', ['-d', '-q', '-f', '--sparse', source, '-o', partial]);
    if (r.status !== 0) throw new Error(`zstd -d ${source}: ${r.stderr?.toString() ?? r.error}`);
  } else copyFileSync(source, partial);
  renameSync(partial, target);
  return target;
}
