import type { BlockSource } from '../block/source.js';
import type { FileSystemDriver, Signature } from './driver.js';

/** Probing order: strong signatures first.  A new filesystem is a folder and a line here. */
export const drivers: readonly FileSystemDriver[] = [];

/** What is on this device, by the first driver that knows it. */
export function probeFileSystem(source: BlockSource): Signature | undefined {
  for (const d of drivers) {
    const s = d.probe(source);
    if (s !== undefined) return s;
  }
  return undefined;
}

/** The driver that reads this device. */
export const driverFor = (source: BlockSource): FileSystemDriver | undefined =>
  drivers.find((d) => d.probe(source) !== undefined);
