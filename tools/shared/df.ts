import { type DiskSpec, explain, GuestError, type KeyRing, openStorage, type Usage } from '../../lib/index.js';

export interface DfRow {
  readonly guest: string;
  readonly device: string;
  readonly usage: Usage;
}
export interface DfResult {
  readonly rows: readonly DfRow[];
  /** Filesystems that could not be looked into. */
  readonly warnings: readonly string[];
}

/** The usage of every filesystem of one guest. */
export function usageOf(guest: string, disks: readonly DiskSpec[], keys?: KeyRing): DfResult {
  const storage = openStorage(disks, keys);
  const rows: DfRow[] = [];
  const warnings: string[] = [];
  try {
    for (const n of storage.fileSystems()) {
      if (n.signature!.type === 'swap') continue;
      try {
        rows.push({ guest, device: n.device, usage: storage.open(n).usage() });
      } catch (e) {
        if (!(e instanceof GuestError) || e.code === 'io') throw e;
        warnings.push(`${guest}: ${explain(e)}`);
      }
    }
  } finally {
    storage.close();
  }
  return { rows, warnings };
}
