import type { ImageInfo } from '../format.js';
import { cryptInfo } from './crypt.js';
import { textExtension } from './header.js';
import type { Qcow2Image } from './image.js';
import * as S from './structs.js';

/** `qemu-img info`, with its key names in `specific`. */
export function describe(image: Qcow2Image): ImageInfo {
  const h = image.header;
  const has = (bit: bigint) => (h.incompatible & bit) !== 0n;
  const v3 = h.version >= 3;
  const dataFile = textExtension(h, S.EXT_DATA_FILE);
  const backingFormat = textExtension(h, S.EXT_BACKING_FORMAT);
  const lazy = (h.compatible & S.COMPAT_LAZY) !== 0n;
  const compression = has(S.INCOMPAT_COMPRESSION) && h.compressionType === 1 ? 'zstd' : 'zlib';
  const encrypt = cryptInfo(image.state);
  const bitmaps = image.bitmaps;
  const specific: Record<string, unknown> = { compat: v3 ? '1.1' : '0.10', 'compression-type': compression };
  // In the order in which qemu-img prints them.
  if (v3) {
    specific['lazy-refcounts'] = lazy;
    if (bitmaps.length > 0)
      specific['bitmaps'] = bitmaps.map((b) => ({
        flags: [...(b.inUse ? ['in-use'] : []), ...(b.enabled ? ['auto'] : [])],
        name: b.name,
        granularity: b.granularity,
      }));
  }
  specific['refcount-bits'] = 2 ** h.refcountOrder;
  if (encrypt !== undefined) specific['encrypt'] = encrypt;
  if (v3) {
    if (has(S.INCOMPAT_DATA_FILE)) {
      specific['data-file'] = dataFile ?? '';
      specific['data-file-raw'] = (h.autoclear & S.AUTOCLEAR_RAW_DATA) !== 0n;
    }
    specific['corrupt'] = has(S.INCOMPAT_CORRUPT);
    specific['extended-l2'] = has(S.INCOMPAT_EXTENDED_L2);
  }
  const features: string[] = [];
  if (lazy) features.push('lazy refcounts');
  if (has(S.INCOMPAT_EXTENDED_L2)) features.push('extended L2 entries');
  if (has(S.INCOMPAT_DATA_FILE)) features.push(`external data file ${dataFile ?? ''}`);
  if (compression === 'zstd') features.push('zstd compression');
  if (h.cryptMethod !== 0) features.push(h.cryptMethod === 1 ? 'AES encryption' : 'LUKS encryption');
  return {
    format: 'qcow2',
    virtualSize: h.size,
    clusterSize: image.clusterSize,
    ...(h.cryptMethod !== 0 ? { encrypted: true } : {}),
    dirty: has(S.INCOMPAT_DIRTY),
    corrupt: has(S.INCOMPAT_CORRUPT),
    ...(h.backingName === undefined ? {} : { backingName: h.backingName }),
    ...(backingFormat === undefined ? {} : { backingFormat }),
    snapshots: image.snapshots,
    features,
    specific,
    ...(dataFile === undefined ? {} : { extentFiles: [dataFile] }),
  };
}
