import { type BlockSource, readUpTo } from '../../block/source.js';
import { GuestError, within } from '../../core/errors.js';
import { isLuks1, Luks1Header, parseLuks1, unlockLuks1 } from '../../crypto/luks1.js';
import { isLuks2, luks2Payload, readLuks2, unlockLuks2 } from '../../crypto/luks2.js';
import { sectorCipher } from '../../crypto/sector.js';
import { DecryptedSource } from '../../crypto/source.js';
import type { KeyRing, Member, Volume, VolumeGroup, VolumeManager } from '../manager.js';

interface Container extends Member {
  readonly version: 1 | 2;
}
const HEAD = 1024;

/** Encrypted devices: each one that a key of the user opens becomes /dev/mapper/luks-UUID. */
export const luks: VolumeManager = {
  name: 'luks',

  probe(source): Container | undefined {
    const head = readUpTo(source, 0, HEAD);
    if (head.length < HEAD || !(isLuks1(head) || isLuks2(head))) return undefined;
    // The UUID is at the same place in both versions.
    const uuid = Buffer.from(Luks1Header.at(head).uuid).toString('latin1').replace(/\0.*$/s, '');
    return { source, type: 'crypto_LUKS', uuid, version: isLuks1(head) ? 1 : 2 };
  },

  assemble(members, keys): readonly VolumeGroup[] {
    return (members as readonly Container[]).map((m) => {
      const volume = volumeOf(m, keys);
      return {
        name: `luks-${m.uuid}`,
        uuid: m.uuid,
        size: m.source.size,
        free: 0,
        members: [m],
        memberSizes: new Map([[m.uuid, m.source.size]]),
        missing: [],
        volumes: [volume],
        problems: [],
      };
    });
  },
};

function volumeOf(m: Container, keys: KeyRing): Volume {
  const device = `/dev/mapper/luks-${m.uuid}`;
  let opened: BlockSource | undefined;
  let reason: GuestError | undefined;
  try {
    opened = m.version === 1 ? openLuks1(m, keys, device) : openLuks2(m, keys, device);
  } catch (e) {
    if (!(e instanceof GuestError) || e.code === 'io') throw e;
    reason = e;
  }
  return {
    device,
    name: `luks-${m.uuid}`,
    uuid: m.uuid,
    size: opened?.size ?? m.source.size,
    kinds: [`LUKS${m.version}`],
    ...(reason === undefined ? {} : { unreadable: reason.message }),
    open() {
      if (opened === undefined) throw reason;
      return opened;
    },
  };
}

/** Tries each key that the user gave; says how many did not fit. */
function tryKeys<T>(m: Container, keys: KeyRing, unlock: (passphrase: Uint8Array) => T | undefined): T {
  let tried = 0;
  for (const passphrase of keys.for(m.device ?? m.source.label, m.uuid)) {
    tried++;
    const key = unlock(passphrase);
    if (key !== undefined) return key;
  }
  throw new GuestError(
    'needs-key',
    tried === 0
      ? `encrypted with LUKS${m.version}: give its key with --key ${m.device ?? m.uuid}:key:… or --keys-from-stdin`
      : `none of the ${tried} key${tried === 1 ? '' : 's'} given opens this LUKS${m.version} device`,
  );
}

function openLuks1(m: Container, keys: KeyRing, device: string): BlockSource {
  return within({ device: m.source.label }, () => {
    const h = parseLuks1(readUpTo(m.source, 0, HEAD), m.source.size);
    const { key } = tryKeys(m, keys, (p) => unlockLuks1(m.source, h, p));
    return new DecryptedSource(m.source, sectorCipher({ cipher: h.cipher, mode: h.mode, key }), h.payloadOffset * 512, {
      label: device,
    });
  });
}

function openLuks2(m: Container, keys: KeyRing, device: string): BlockSource {
  return within({ device: m.source.label }, () => {
    const h = readLuks2(m.source);
    const payload = luks2Payload(h);
    const key = tryKeys(m, keys, (p) => unlockLuks2(m.source, h, p));
    const step = payload.sectorSize / 512;
    const cipher = sectorCipher({
      cipher: payload.cipher,
      mode: payload.mode,
      key,
      sectorSize: payload.sectorSize,
      ivStep: step,
    });
    const size = payload.size ?? Math.floor((m.source.size - payload.offset) / payload.sectorSize) * payload.sectorSize;
    return new DecryptedSource(m.source, cipher, payload.offset, { label: device, firstSector: payload.tweak / step, size });
  });
}
