import { type BlockSource, readUpTo } from '../block/source.js';
import { usage } from '../core/errors.js';
import type { ImageFormat } from './format.js';
import { qcow2 } from './qcow2/index.js';
import { raw } from './raw/index.js';
import { vdi } from './vdi/index.js';
import { vhdx } from './vhdx/index.js';
import { vmdk } from './vmdk/index.js';
import { vpc } from './vpc/index.js';

/** Image formats in probing order: strong signatures first, raw, which is anything, last. */
export const formats: readonly ImageFormat[] = [qcow2, vmdk, vpc, vhdx, vdi, raw];

const ALIASES: Readonly<Record<string, string>> = { vhd: 'vpc' };

export const findFormat = (name: string): ImageFormat | undefined => {
  const wanted = ALIASES[name.toLowerCase()] ?? name.toLowerCase();
  return formats.find((f) => f.name === wanted);
};
/** The format of that name ("vhd" is "vpc"). */
export function formatByName(name: string): ImageFormat {
  const f = findFormat(name);
  if (f === undefined) throw usage(`image format "${name}" is not known (${formats.map((x) => x.name).join(', ')})`);
  return f;
}

/** The first format whose signature is there; raw when none is. */
export function probeFormat(file: BlockSource): ImageFormat {
  const head = readUpTo(file, 0, 65536);
  return formats.find((f) => f.probe(head, file)) ?? raw;
}
