import { unlz4Block, unxz, unzstd } from '../../core/codec.js';
import { corrupt } from '../../core/errors.js';
import { viewOf } from '../../core/struct.js';
import { Compression, MAX_FIELD_BYTES } from './structs.js';

/** The contents of a data object's payload. */
export function inflatePayload(payload: Uint8Array, flags: number): Uint8Array {
  switch (flags & 7) {
    case 0:
      return payload;
    case Compression.xz:
      return unxz(payload, MAX_FIELD_BYTES);
    case Compression.zstd:
      return unzstd(payload, MAX_FIELD_BYTES);
    case Compression.lz4: {
      // The size, then one bare block.
      if (payload.length < 9) throw corrupt(`LZ4 field of ${payload.length} bytes is too short`);
      const v = viewOf(payload);
      const size = v.getUint32(0, true) + v.getUint32(4, true) * 2 ** 32;
      if (size > MAX_FIELD_BYTES) throw corrupt(`LZ4 field says it has ${size} bytes (at most ${MAX_FIELD_BYTES})`);
      // No LZ4 block grows more than 255 times, so a small lie cannot make us allocate much.
      if (size > payload.length * 255) throw corrupt(`LZ4 field of ${payload.length} bytes says it has ${size}`);
      return unlz4Block(payload.subarray(8), size);
    }
    default:
      throw corrupt(`data object with several compressions (flags ${flags})`);
  }
}
