import { isPowerOfTwo } from '../../core/bytes.js';
import { latin1 } from '../../core/text.js';
import { BootSector } from './structs.js';

/** Where the parts of a FAT filesystem are, in bytes; checked. */
export interface Geometry {
  readonly bits: 12 | 16 | 32;
  readonly sectorSize: number;
  readonly clusterSize: number;
  readonly fats: number;
  readonly fatStart: number;
  readonly fatBytes: number;
  /** Which FAT counts; the others are copies unless mirroring is off. */
  readonly activeFat: number;
  readonly mirrored: boolean;
  /** FAT12/16: the root directory lies before the clusters. */
  readonly rootStart: number;
  readonly rootBytes: number;
  /** FAT32: the root directory is a chain. */
  readonly rootCluster: number;
  readonly dataStart: number;
  /** Clusters are numbered from 2 to this, exclusive. */
  readonly clusterEnd: number;
  readonly serial: number;
  readonly fsInfoAt: number | undefined;
}

/** Strings that mkfs programs write; without one the boot sector must look like one in other ways. */
const NAMED: readonly (readonly [number, string])[] = [
  [0x52, 'MSWIN'],
  [0x52, 'FAT32   '],
  [0x36, 'MSDOS'],
  [0x36, 'FAT16   '],
  [0x36, 'FAT12   '],
  [0x36, 'FAT     '],
];
/** OS/2 puts a FAT-like boot sector in front of these. */
const FOREIGN = ['JFS     ', 'HPFS    '];
const MOST_CLUSTERS = { 12: 0xff4, 16: 0xfff4, 32: 0x0ffffff6 } as const;

/** The geometry a boot sector describes, or undefined when it is none of FAT's. */
export function geometryOf(raw: Uint8Array): Geometry | undefined {
  if (raw.length < 512) return undefined;
  const b = BootSector.at(raw);
  const named = NAMED.some(([at, text]) => latin1(raw.subarray(at, at + text.length)) === text);
  if (!named) {
    if (b.signature !== 0xaa55 || (b.jump[0] !== 0xeb && b.jump[0] !== 0xe9)) return undefined;
    if (FOREIGN.includes(latin1(raw.subarray(0x36, 0x3e)))) return undefined;
  }
  const { bytesPerSector: sectorSize, sectorsPerCluster, reservedSectors, fats, rootEntries, media } = b;
  if (fats === 0 || reservedSectors === 0 || (media < 0xf8 && media !== 0xf0)) return undefined;
  if (!isPowerOfTwo(sectorSize) || sectorSize < 512 || sectorSize > 4096 || !isPowerOfTwo(sectorsPerCluster)) return undefined;
  const sectors = b.totalSectors16 || b.totalSectors32;
  const fat32 = b.fatSize16 === 0 && b.fatSize32 !== 0;
  const fatSectors = fat32 ? b.fatSize32 : b.fatSize16;
  if (fatSectors === 0) return undefined;
  const rootSectors = Math.ceil((rootEntries * 32) / sectorSize);
  const dataSector = reservedSectors + fats * fatSectors + rootSectors;
  if (sectors <= dataSector) return undefined;
  const clusters = Math.floor((sectors - dataSector) / sectorsPerCluster);
  const bits = fat32 ? 32 : clusters > MOST_CLUSTERS[12] ? 16 : 12;
  if (clusters > MOST_CLUSTERS[bits] || (!fat32 && rootEntries === 0)) return undefined;
  const fatBytes = fatSectors * sectorSize;
  const entries = Math.floor((fatBytes * 8) / bits);
  const clusterEnd = Math.min(clusters + 2, entries);
  if (fat32 && (b.rootCluster < 2 || b.rootCluster >= clusterEnd)) return undefined;
  const mirrored = !fat32 || (b.extFlags & 0x80) === 0;
  const active = mirrored ? 0 : b.extFlags & 15;
  return {
    bits,
    sectorSize,
    clusterSize: sectorsPerCluster * sectorSize,
    fats,
    fatStart: reservedSectors * sectorSize,
    fatBytes,
    activeFat: active < fats ? active : 0,
    mirrored,
    rootStart: (reservedSectors + fats * fatSectors) * sectorSize,
    rootBytes: rootEntries * 32,
    rootCluster: fat32 ? b.rootCluster : 0,
    dataStart: dataSector * sectorSize,
    clusterEnd,
    serial: fat32 ? b.serial32 : b.serial16,
    fsInfoAt: fat32 ? b.fsInfoSector * sectorSize : undefined,
  };
}
