import type { Usage } from '../driver.js';
import { COMPAT, INCOMPAT } from './structs.js';
import { groupStart, hasSuper, type Super } from './superblock.js';
import type { Group, Volume } from './volume.js';

/** statvfs as the kernel gives it: the filesystem's own blocks are not part of the total. */
export function usageOf(volume: Volume): Usage {
  const s = volume.sb;
  const groups: Group[] = [];
  for (let g = 0; g < s.groups; g++) groups.push(volume.group(g));
  const free = groups.reduce((n, g) => n + g.freeClusters, 0) * s.clusterRatio;
  // Clusters the kernel keeps back so that delayed allocation cannot fail.
  const kept = s.incompat & INCOMPAT.extents ? Math.min(4096, Math.floor(Math.floor(s.blocks / s.clusterRatio) / 50)) : 0;
  return {
    blockSize: s.blockSize,
    blocks: s.blocks - overheadClusters(volume, groups) * s.clusterRatio,
    free,
    available: Math.max(0, free - s.reservedBlocks - kept * s.clusterRatio),
    files: s.inodes,
    freeFiles: groups.reduce((n, g) => n + g.freeInodes, 0),
  };
}

function overheadClusters(volume: Volume, groups: readonly Group[]): number {
  const s = volume.sb;
  const bigalloc = s.clusterRatio > 1;
  // Counting is slow with clusters, so the kernel trusts mke2fs there.
  if (bigalloc && s.overheadClusters > 0 && s.overheadClusters <= s.blocks) return s.overheadClusters;
  let n = Math.floor(s.firstDataBlock / s.clusterRatio);
  for (let g = 0; g < groups.length; g++) n += bigalloc ? clustersUsed(volume, g, groups) : blocksUsed(volume, g);
  if (s.compat & COMPAT.hasJournal && s.journalInum !== 0) {
    const journal = volume.inode(s.journalInum);
    n += Math.ceil(Math.floor(journal.size / s.blockSize) / s.clusterRatio);
  }
  return n;
}

/** Blocks of group descriptors in a group. */
function descriptorBlocks(s: Super, group: number): number {
  const perBlock = s.blockSize / s.descSize;
  const metaGroup = Math.floor(group / perBlock);
  const metaBg = (s.incompat & INCOMPAT.metaBg) !== 0;
  if (metaBg && metaGroup >= s.firstMetaBg) {
    const first = metaGroup * perBlock;
    return group === first || group === first + 1 || group === first + perBlock - 1 ? 1 : 0;
  }
  if (!hasSuper(s, group)) return 0;
  return metaBg ? s.firstMetaBg : Math.ceil(s.groups / perBlock);
}

function blocksUsed(volume: Volume, group: number): number {
  const s = volume.sb;
  const own = hasSuper(s, group) ? 1 + s.reservedGdtBlocks : 0;
  return own + descriptorBlocks(s, group) + volume.tableBlocks + 2;
}

/** As the kernel counts: metadata of any group that lies in this one, each cluster once. */
function clustersUsed(volume: Volume, group: number, groups: readonly Group[]): number {
  const s = volume.sb;
  const first = groupStart(s, group);
  const end = first + s.blocksPerGroup;
  const used = new Set<number>();
  const mark = (block: number, count: number) => {
    for (let b = Math.max(first, block); b < Math.min(end, block + count); b += 1)
      used.add(Math.floor((b - first) / s.clusterRatio));
  };
  for (const g of groups) {
    mark(g.blockBitmap, 1);
    mark(g.inodeBitmap, 1);
    mark(g.inodeTable, volume.tableBlocks);
  }
  mark(first, (hasSuper(s, group) ? 1 : 0) + descriptorBlocks(s, group));
  return used.size;
}
