import type { BlockSource } from '../block/source.js';
import type { FileSystemDriver, Signature } from './driver.js';
import { ext } from './ext/index.js';
import { fat } from './fat/index.js';
import { swap } from './swap/index.js';
import { xfs } from './xfs/index.js';

/** Probing order: strong signatures first. */
export const drivers: readonly FileSystemDriver[] = [ext, xfs, swap, fat];

/** The first driver that knows this source's bytes. */
export const driverFor = (source: BlockSource): FileSystemDriver | undefined =>
  drivers.find((d) => d.probe(source) !== undefined);

/** What the first driver that knows this source says of it. */
export function probeFileSystem(source: BlockSource): Signature | undefined {
  for (const d of drivers) {
    const signature = d.probe(source);
    if (signature !== undefined) return signature;
  }
  return undefined;
}
