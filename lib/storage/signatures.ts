import { type BlockSource, readUpTo } from '../block/source.js';
import { latin1 } from '../core/text.js';
import type { Signature } from '../filesystem/driver.js';

/**
 * What lies on a device that no driver of ours opens (yet): types by their magic bytes, so that a listing can name them.
 * Names are blkid's.  Offsets are those of each format's own documentation.
 */
const MAGICS: readonly { readonly type: string; readonly offset: number; readonly magic: string; readonly fromEnd?: boolean }[] =
  [
    { type: 'crypto_LUKS', offset: 0, magic: 'LUKS\xba\xbe' },
    { type: 'BitLocker', offset: 3, magic: '-FVE-FS-' },
    { type: 'ntfs', offset: 3, magic: 'NTFS    ' },
    { type: 'exfat', offset: 3, magic: 'EXFAT   ' },
    { type: 'btrfs', offset: 0x10040, magic: '_BHRfS_M' },
    { type: 'xfs', offset: 0, magic: 'XFSB' },
    { type: 'squashfs', offset: 0, magic: 'hsqs' },
    { type: 'erofs', offset: 1024, magic: '\xe2\xe1\xf5\xe0' },
    { type: 'f2fs', offset: 1024, magic: '\x10\x20\xf5\xf2' },
    { type: 'iso9660', offset: 0x8001, magic: 'CD001' },
    { type: 'udf', offset: 0x8001, magic: 'BEA01' },
    { type: 'hfsplus', offset: 1024, magic: 'H+' },
    { type: 'hfsplus', offset: 1024, magic: 'HX' },
    { type: 'hfs', offset: 1024, magic: 'BD' },
    { type: 'apfs', offset: 32, magic: 'NXSB' },
    { type: 'jfs', offset: 0x8000, magic: 'JFS1' },
    { type: 'reiserfs', offset: 0x10034, magic: 'ReIsEr' },
    { type: 'bcachefs', offset: 0x1018, magic: '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81' },
    { type: 'bcache', offset: 0x1018, magic: '\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef' },
    { type: 'nilfs2', offset: 1030, magic: '\x34\x34' },
    { type: 'VMFS', offset: 0x200000, magic: '\x5e\xf1\xab\x2f' },
    { type: 'VMFS_volume_member', offset: 0x100000, magic: '\x0d\xd0\x01\xc0' },
    { type: 'linux_raid_member', offset: 4096, magic: '\xfc\x4e\x2b\xa9' },
    { type: 'linux_raid_member', offset: 0, magic: '\xfc\x4e\x2b\xa9' },
    { type: 'ufs', offset: 0x10000 + 1372, magic: '\x19\x01\x54\x19' },
    { type: 'ufs', offset: 0x2000 + 1372, magic: '\x19\x01\x54\x19' },
    { type: 'ufs', offset: 0x2000 + 1372, magic: '\x54\x19\x01\x00' },
    { type: 'zfs_member', offset: 0x20000 + 0x3fd8, magic: '\x0c\xb1\xba\x00' },
    { type: 'minix', offset: 1040, magic: '\x7f\x13' },
    { type: 'minix', offset: 1040, magic: '\x8f\x13' },
    { type: 'minix', offset: 1040, magic: '\x68\x24' },
    { type: 'minix', offset: 1040, magic: '\x78\x24' },
    { type: 'cramfs', offset: 0, magic: '\x45\x3d\xcd\x28' },
    { type: 'romfs', offset: 0, magic: '-rom1fs-' },
  ];

/** MD RAID metadata 0.90 and 1.0 stand near the end of the device. */
function mdAtEnd(source: BlockSource): boolean {
  const old = Math.floor(source.size / 65536) * 65536 - 65536;
  const v1 = Math.floor((source.size - 8192) / 4096) * 4096;
  return [old, v1].some((at) => at >= 0 && latin1(readUpTo(source, at, 4)) === '\xfc\x4e\x2b\xa9');
}

/** The type of what lies on `source`, when its magic bytes are known. */
export function knownSignature(source: BlockSource): Signature | undefined {
  for (const m of MAGICS)
    if (m.offset + m.magic.length <= source.size && latin1(readUpTo(source, m.offset, m.magic.length)) === m.magic)
      return { type: m.type };
  return mdAtEnd(source) ? { type: 'linux_raid_member' } : undefined;
}
