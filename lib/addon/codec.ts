import { loadTarget } from './load.js';

/** What `native/napi/codec.cc` exports. */
export interface NativeCodec {
  readonly version: number;
}

let native: NativeCodec | undefined;
let asked = false;
/** The codec target, loaded at its first use. */
export function codecAddon(): NativeCodec | undefined {
  if (!asked) {
    asked = true;
    native = loadTarget<NativeCodec>('codec');
  }
  return native;
}
export const hasCodec = (): boolean => codecAddon() !== undefined;
