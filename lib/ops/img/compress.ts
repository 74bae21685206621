import { type CompressionMethod, codecAddon } from '../../addon/codec.js';
import { unsupported } from '../../core/errors.js';
import type { WritableImage } from '../../image/format.js';
import { type PackedBlock, WritableMappedImage } from '../../image/mapped.js';
import { WritableQcow2Image } from '../../image/qcow2/index.js';
import type { Sink } from './copy.js';
import { COMPRESS_WINDOW, type Windows } from './window.js';

/** Compresses whole clusters (qcow2) or grains (stream-optimized VMDK), all cores at work on one window. */
export function compressor(target: WritableImage, zeroed: boolean): Sink {
  if (target instanceof WritableQcow2Image) {
    const cs = target.clusterSize;
    const zstd = target.describe().specific?.['compression-type'] === 'zstd';
    return sink(target, zeroed, cs, zstd ? 'zstd' : 'deflate', cs - 1, (blocks) => target.writeCompressedMany(blocks));
  }
  const grain = target instanceof WritableMappedImage ? target.packedBlockSize : undefined;
  if (grain === undefined) throw unsupported('compression is not supported for this file format');
  // Every grain is stored compressed, whether that is shorter or not.
  return sink(target, zeroed, grain, 'zlib', grain + 512, (blocks) => (target as WritableMappedImage).writePacked(blocks));
}

function sink(
  target: WritableImage,
  zeroed: boolean,
  unit: number,
  method: CompressionMethod,
  room: number,
  enter: (blocks: readonly PackedBlock[]) => void,
): Sink {
  const codec = codecAddon();
  const native = codec !== undefined && (method !== 'zstd' || codec.zstd) ? codec : undefined;
  const output = native === undefined ? new Uint8Array(0) : new Uint8Array((COMPRESS_WINDOW / unit) * room);
  let blocks: number[] = [];
  return {
    unit,
    data(_windows, at, length) {
      for (let k = 0; k < length; k += unit) blocks.push(at + k);
    },
    zero(offset, length) {
      if (!zeroed) target.zero(offset, length);
    },
    end(windows) {
      const input = windows.padded(unit);
      if (native === undefined) slow(windows, input);
      else if (blocks.length > 0) {
        const plan = new Float64Array(blocks.length * 5);
        for (const [i, at] of blocks.entries()) plan.set([at, unit, i * room, room, 0], i * 5);
        native.compress(method, method === 'zstd' ? 3 : -1, input, output, plan);
        let packed: PackedBlock[] = [];
        for (const [i, at] of blocks.entries()) {
          const n = plan[i * 5 + 4]!;
          const offset = windows.start + at;
          if (n > 0) packed.push({ offset, data: output.subarray(i * room, i * room + n) });
          else {
            enter(packed);
            packed = [];
            target.write(input.subarray(at, Math.min(at + unit, target.size - windows.start)), offset);
          }
        }
        enter(packed);
      }
      blocks = [];
      return [];
    },
  };

  function slow(windows: Windows, input: Uint8Array): void {
    for (const at of blocks) {
      const offset = windows.start + at;
      const part = input.subarray(at, Math.min(at + unit, target.size - windows.start));
      if (target instanceof WritableQcow2Image) target.writeCompressed(part, offset);
      else target.write(part, offset);
    }
  }
}
