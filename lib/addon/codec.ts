import { loadTarget } from './load.js';

/** What `native/napi/codec.cc` exports: ciphers and compressors over many blocks at once, on all cores. */
export interface NativeCodec {
  /** In place; key of 32 or 64 bytes; the first sector's number is its tweak, each further one adds `step` (1). */
  xts(encrypt: boolean, key: Uint8Array, data: Uint8Array, sectorSize: number, firstSector: number, step?: number): void;
  /** In place; an empty `ivKey` means plain64, else ESSIV with that AES key. */
  cbc(
    encrypt: boolean,
    key: Uint8Array,
    ivKey: Uint8Array,
    data: Uint8Array,
    sectorSize: number,
    firstSector: number,
    step?: number,
  ): void;
  /**
   * Five numbers a block in `plan`: offset and length in `input`, offset and room in `output`, and the result: bytes
   * written, 0 where the block does not fit.  "deflate" is raw with a 4 KiB window (qcow2), "zlib" a stream with header.
   */
  compress(method: CompressionMethod, level: number, input: Uint8Array, output: Uint8Array, plan: Float64Array): void;
  /** As `compress`; the room is the size wanted; a result of 0 marks damaged data.  "deflate" takes any window. */
  decompress(method: CompressionMethod, input: Uint8Array, output: Uint8Array, plan: Float64Array): void;
  /** Was the addon built with libzstd? */
  readonly zstd: boolean;
  readonly threads: number;
}
export type CompressionMethod = 'deflate' | 'zlib' | 'zstd';

let native: NativeCodec | undefined;
let asked = false;
/** The codec target, loaded at its first use; undefined where it is not built. */
export function codecAddon(): NativeCodec | undefined {
  if (!asked) {
    asked = true;
    native = loadTarget<NativeCodec>('codec');
  }
  return native;
}
export const hasCodec = (): boolean => codecAddon() !== undefined;
