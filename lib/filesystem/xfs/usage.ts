import { corrupt, hex } from '../../core/errors.js';
import type { Usage } from '../driver.js';
import { checksumFault } from './checksum.js';
import { AGF_CRC, AGF_MAGIC, AGI_CRC, AGI_MAGIC, Agf, Agi } from './structs.js';
import type { Volume } from './volume.js';

/** Blocks of each group that the kernel keeps so that freeing space cannot fail. */
const SET_ASIDE = 8;
const INODES_MAX = 2 ** 56 - 1;

/** statvfs as the kernel gives it for a read-only mount; `countGroups` when the superblock's counters cannot be trusted. */
export function usageOf(volume: Volume, countGroups: boolean): Usage {
  const { sb } = volume;
  const { icount, ifree, fdblocks } = countGroups ? sumGroups(volume) : sb;
  const free = Math.max(0, fdblocks - sb.agCount * SET_ASIDE);
  const perBlock = 2 ** sb.inopbLog;
  let files = Math.min(icount + free * perBlock, INODES_MAX);
  if (sb.imaxPct > 0) {
    // Inodes are allocated in chunks of 64, or of what a larger block holds.
    const chunk = Math.max(64, perBlock) / perBlock;
    files = Math.min(files, Math.floor(Math.floor((sb.dblocks * sb.imaxPct) / 100) / chunk) * chunk * perBlock);
  }
  files = Math.max(files, sb.icount);
  return {
    blockSize: sb.blockSize,
    blocks: sb.dblocks - (sb.logStart !== 0 ? sb.logBlocks : 0),
    free,
    available: free,
    files,
    freeFiles: Math.max(0, files - (icount - ifree)),
  };
}

/** The counters as the headers of all allocation groups have them. */
function sumGroups(volume: Volume): { icount: number; ifree: number; fdblocks: number } {
  const { sb } = volume;
  let icount = 0;
  let ifree = 0;
  let fdblocks = 0;
  for (let ag = 0; ag < sb.agCount; ag++) {
    const at = ag * sb.agBlocks * sb.blockSize;
    const agf = Agf.at(header(volume, at + sb.sectSize, AGF_MAGIC, AGF_CRC, `AGF ${ag}`));
    fdblocks += agf.freeblks + agf.flcount + agf.btreeblks;
    const agi = Agi.at(header(volume, at + 2 * sb.sectSize, AGI_MAGIC, AGI_CRC, `AGI ${ag}`));
    icount += agi.count;
    ifree += agi.freecount;
  }
  return { icount, ifree, fdblocks };
}

function header(volume: Volume, at: number, magic: number, crcAt: number, what: string): Uint8Array {
  const b = volume.cache.view(at, volume.sb.sectSize);
  const found = new DataView(b.buffer, b.byteOffset, b.length).getUint32(0);
  const fault =
    found !== magic ? `magic is ${hex(found)}, expected ${hex(magic)}` : volume.sb.v5 ? checksumFault(b, crcAt) : undefined;
  if (fault !== undefined) throw corrupt(`xfs: ${what} at ${hex(at)}: ${fault}`, { offset: at });
  return b;
}
