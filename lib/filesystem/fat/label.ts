import { type BlockSource, readUpTo } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import { decodeName } from '../../core/text.js';
import type { Signature } from '../driver.js';
import type { Geometry } from './geometry.js';
import { ATTR, DELETED } from './structs.js';
import { Volume } from './volume.js';

/** Clusters of a FAT32 root directory that are searched for a label: what blkid does not go beyond either. */
const CLUSTERS_MAX = 100;

/** What blkid says of a FAT filesystem; undefined when it would say nothing. */
export function signatureOf(source: BlockSource, g: Geometry): Signature | undefined {
  if (g.fsInfoAt !== undefined && g.fsInfoAt > 0 && !fsInfoOk(source, g.fsInfoAt)) return undefined;
  const label = labelOf(source, g);
  const serial = g.serial >>> 0;
  const digits = serial.toString(16).toUpperCase().padStart(8, '0');
  return {
    type: 'vfat',
    ...(serial !== 0 ? { uuid: `${digits.slice(0, 4)}-${digits.slice(4)}` } : {}),
    ...(label !== undefined ? { label } : {}),
  };
}

function fsInfoOk(source: BlockSource, at: number): boolean {
  const b = readUpTo(source, at, 512);
  if (b.length < 512) return false;
  const v = new DataView(b.buffer, b.byteOffset, 512);
  const lead = v.getUint32(0);
  const mark = v.getUint32(484);
  const empty = lead === 0 && mark === 0;
  return empty || ((lead === 0x52526141 || lead === 0x52526441) && (mark === 0x72724161 || mark === 0));
}

/** The volume label is an entry of the root directory; the boot sector's copy may be stale and does not count. */
function labelOf(source: BlockSource, g: Geometry): string | undefined {
  const volume = new Volume(source, g);
  try {
    const parts =
      g.bits === 32 ? volume.chain(g.rootCluster, CLUSTERS_MAX * g.clusterSize) : [{ at: g.rootStart, length: g.rootBytes }];
    for (const { at, length } of parts) {
      const b = readUpTo(source, at, Math.min(length, CLUSTERS_MAX * 65536));
      for (let o = 0; o + 32 <= b.length; o += 32) {
        if (b[o] === 0) return undefined;
        const attributes = b[o + 0xb]!;
        const cluster = b[o + 0x14]! | b[o + 0x15]! | b[o + 0x1a]! | b[o + 0x1b]!;
        if (b[o] === DELETED || cluster !== 0 || (attributes & 0x3f) === ATTR.long) continue;
        if ((attributes & (ATTR.volume | ATTR.directory)) !== ATTR.volume) continue;
        const name = b.slice(o, o + 11);
        if (name[0] === 0x05) name[0] = DELETED;
        const text = decodeName(name).replace(/ +$/, '');
        return text === '' ? undefined : text;
      }
    }
  } catch (e) {
    if (!(e instanceof GuestError)) throw e;
    // A damaged root directory is open's business: for the signature it has no label.
  }
  return undefined;
}
