import { type BlockSource, readUpTo } from '../../block/source.js';
import { uuidText } from '../../core/bytes.js';
import { unsupported } from '../../core/errors.js';
import { cString, latin1 } from '../../core/text.js';
import type { FileSystemDriver, Signature } from '../driver.js';

/** The signature ends the first page, and the page size is the machine's that made it. */
const PAGES = [4096, 8192, 16384, 32768, 65536] as const;
const SIGNATURE_BYTES = 10;
/** mkswap's header: version, last page, count of bad pages, UUID, label, after 1024 bytes for a boot block. */
const HEADER = 1024;
const HEADER_BYTES = 512;
/** Two words of the padding that blkid looks at. */
const PADDING = 44 + 32 * 4;
/** What hibernation leaves in place of the signature, as uswsusp, TuxOnIce and the kernel write it. */
const SUSPENDED = ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'] as const;
const TUX_ON_ICE = Uint8Array.of(0xed, 0xc3, 0x02, 0xe9, 0x98, 0x56, 0xe5, 0x0c);

/** Swap space and hibernation images: recognised, never read. */
export const swap: FileSystemDriver = {
  name: 'swap',
  probe,
  open() {
    throw unsupported('swap space has no files');
  },
};

function probe(source: BlockSource): Signature | undefined {
  // TuxOnIce leaves the swap header valid, so it comes first.
  const start = readUpTo(source, 0, TUX_ON_ICE.length);
  if (start.length === TUX_ON_ICE.length && TUX_ON_ICE.every((b, i) => b === start[i])) return { type: 'swsuspend' };
  const header = readUpTo(source, HEADER, HEADER_BYTES);
  if (header.length < HEADER_BYTES) return undefined;
  const v = new DataView(header.buffer, header.byteOffset, HEADER_BYTES);
  for (const page of PAGES) {
    const mark = latin1(readUpTo(source, page - SIGNATURE_BYTES, SIGNATURE_BYTES));
    if (mark === 'SWAP-SPACE') return { type: 'swap', ...names(header, v) };
    // Version 1 in either byte order: the machine that made it may have had another one than ours.
    if (mark === 'SWAPSPACE2')
      return (v.getUint32(0, true) === 1 || v.getUint32(0) === 1) && v.getUint32(4, true) !== 0
        ? { type: 'swap', ...names(header, v) }
        : undefined;
    if (SUSPENDED.some((s) => mark.startsWith(s))) return { type: 'swsuspend', ...names(header, v) };
  }
  return undefined;
}

/** UUID and label, unless what should be padding shows that there is something else. */
function names(header: Uint8Array, v: DataView): { uuid?: string; label?: string } {
  if (v.getUint32(PADDING) !== 0 || v.getUint32(PADDING + 4) !== 0) return {};
  const uuid = header.subarray(12, 28);
  const label = cString(header.subarray(28, 44));
  return { ...(uuid.some((x) => x !== 0) ? { uuid: uuidText(uuid) } : {}), ...(label !== '' ? { label } : {}) };
}
