import { deflateRaw, inflateRaw, unzstd, zstd } from '../../core/codec.js';
import { corrupt, hex } from '../../core/errors.js';

/** Decompresses one cluster.  `data` may go on past its end: its length is stored in sectors. */
export function decompressCluster(type: number, data: Uint8Array, clusterSize: number, at: number): Uint8Array {
  const out = type === 1 ? unzstd(data.subarray(0, zstdFrameLength(data)), clusterSize) : inflateRaw(data, clusterSize);
  if (out.length !== clusterSize)
    throw corrupt(`compressed cluster at ${hex(at)} gives ${out.length} bytes instead of ${clusterSize}`, { offset: at });
  return out;
}

/** Compressed bytes of one cluster, undefined when that would not be shorter.  The window is QEMU's: 4 KiB for deflate. */
export function compressCluster(type: number, cluster: Uint8Array): Uint8Array | undefined {
  const out = type === 1 ? zstd(cluster) : deflateRaw(cluster, -1, 12);
  return out.length < cluster.length ? out : undefined;
}

/** Length of the first zstd frame of `b` (RFC 8878, 3.1.1), or all of it when it is cut off. */
export function zstdFrameLength(b: Uint8Array): number {
  if (b.length < 6 || b[0] !== 0x28 || b[1] !== 0xb5 || b[2] !== 0x2f || b[3] !== 0xfd) return b.length;
  const d = b[4]!;
  const single = (d >> 5) & 1;
  const sizeFlag = d >> 6;
  let at = 5 + (single ? 0 : 1) + [0, 1, 2, 4][d & 3]! + (sizeFlag === 0 ? single : 1 << sizeFlag);
  for (;;) {
    if (at + 3 > b.length) return b.length;
    const block = b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16);
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
    if (block & 1) break;
  }
  return Math.min(b.length, at + ((d >> 2) & 1 ? 4 : 0));
}
