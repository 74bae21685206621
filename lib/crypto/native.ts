import { codecAddon } from '../addon/codec.js';
import { hash, type SectorCipher, type SectorCipherSpec } from './sector.js';

/** AES on all cores by the addon, for the modes it knows; undefined leaves the pure version to it. */
export function nativeSectorCipher(spec: SectorCipherSpec): SectorCipher | undefined {
  if (spec.cipher !== 'aes') return undefined;
  const { key } = spec;
  const sectorSize = spec.sectorSize ?? 512;
  const xts = spec.mode === 'xts-plain64';
  const essiv = spec.mode.startsWith('cbc-essiv:');
  if (!xts && !essiv && spec.mode !== 'cbc-plain64') return undefined;
  if (xts ? key.length !== 32 && key.length !== 64 : key.length !== 16 && key.length !== 32) return undefined;
  if (sectorSize % 16 !== 0) return undefined;
  const native = codecAddon();
  if (native === undefined) return undefined;
  const step = spec.ivStep ?? 1;
  const own = key.slice();
  const ivKey = essiv ? hash(spec.mode.slice('cbc-essiv:'.length), key) : new Uint8Array(0);
  if (essiv && ivKey.length !== 16 && ivKey.length !== 32) return undefined;
  const run = (encrypt: boolean, data: Uint8Array, sector: number): void => {
    if (data.length === 0) return;
    if (xts) native.xts(encrypt, own, data, sectorSize, sector * step, step);
    else native.cbc(encrypt, own, ivKey, data, sectorSize, sector * step, step);
  };
  return {
    sectorSize,
    decrypt: (data, sector) => run(false, data, sector),
    encrypt: (data, sector) => run(true, data, sector),
  };
}
