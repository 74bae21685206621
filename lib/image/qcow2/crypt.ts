import { type BlockSource, isWritable, readUpTo } from '../../block/source.js';
import { Window, WritableWindow } from '../../block/window.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { type Luks1, noKeyFits, parseLuks1, unlockLuks1 } from '../../crypto/luks1.js';
import { sectorCipher } from '../../crypto/sector.js';
import type { OpenContext } from '../format.js';
import { extensionOf } from './header.js';
import type { State } from './state.js';
import { CryptExtension, EXT_CRYPT } from './structs.js';

/** The clusters that hold the LUKS header and key material. */
export function luksArea(s: State): BlockSource {
  const e = CryptExtension.at(extensionOf(s.header, EXT_CRYPT)!);
  if (e.offset === 0 || e.offset % s.clusterSize !== 0)
    throw corrupt(`LUKS header at ${hex(e.offset)} is not aligned to clusters`);
  if (e.length < 592 || e.length > 64 << 20) throw corrupt(`LUKS header of ${e.length} bytes`);
  const length = Math.min(e.length, s.file.size - e.offset);
  if (length < 592) throw corrupt(`LUKS header at ${hex(e.offset)} is past the end of the file (size ${hex(s.file.size)})`);
  const label = `${s.label}, LUKS header`;
  return isWritable(s.file) ? new WritableWindow(s.file, e.offset, length, label) : new Window(s.file, e.offset, length, label);
}

export function luksHeader(s: State): Luks1 {
  const area = luksArea(s);
  return parseLuks1(readUpTo(area, 0, 1024), area.size);
}

/** Unlocks the payload with the caller's passphrase; without one the metadata can still be looked at. */
export function openCrypt(s: State, context: OpenContext): void {
  if (s.header.cryptMethod === 2) luksHeader(s);
  const secret = context.secret?.();
  if (secret === undefined) {
    s.cipher = LOCKED;
    return;
  }
  if (s.header.cryptMethod === 1) {
    // QEMU's legacy scheme: the passphrase itself, cut or padded to 16 bytes, is the key.
    const key = new Uint8Array(16);
    key.set(secret.subarray(0, 16));
    s.cipher = sectorCipher({ cipher: 'aes', mode: 'cbc-plain64', key });
    s.cipherByGuest = true;
    return;
  }
  const h = luksHeader(s);
  const found = unlockLuks1(luksArea(s), h, secret);
  if (found === undefined) throw noKeyFits('encrypted qcow2 image');
  s.cipher = sectorCipher({ cipher: h.cipher, mode: h.mode, key: found.key });
}

const locked = (): never => {
  throw new GuestError('needs-key', 'the image is encrypted: a passphrase is needed to read it');
};
const LOCKED = { sectorSize: 512, decrypt: locked, encrypt: locked };

/** The "encrypt" object of `qemu-img info`. */
export function cryptInfo(s: State): Record<string, unknown> | undefined {
  if (s.header.cryptMethod === 0) return undefined;
  if (s.header.cryptMethod === 1) return { format: 'aes' };
  const h = luksHeader(s);
  const [mode, iv = ''] = h.mode.split('-', 2);
  const [ivgen, ivHash] = iv.split(':', 2);
  const keyBits = (mode === 'xts' ? h.keyBytes / 2 : h.keyBytes) * 8;
  return {
    'ivgen-alg': ivgen,
    ...(ivHash === undefined ? {} : { 'ivgen-hash-alg': ivHash }),
    'hash-alg': h.hash,
    'cipher-alg': `${h.cipher}-${keyBits}`,
    uuid: h.uuid,
    format: 'luks',
    'cipher-mode': mode,
    slots: h.slots.map((k) =>
      k.active
        ? { active: true, iters: k.iterations, 'key-offset': k.keyOffset * 512, stripes: k.stripes }
        : { active: false, 'key-offset': k.keyOffset * 512 },
    ),
    'payload-offset': h.payloadOffset * 512,
    'master-key-iters': h.digestIterations,
    'detached-header': false,
  };
}
