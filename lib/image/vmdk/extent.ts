import type { BlockSource } from '../../block/source.js';
import type { Allocation, Findings, PackedBlock, Piece } from '../mapped.js';

/** One extent of a VMDK disk: a run of the guest's sectors, in a file of its own or in the image's. */
export interface DiskExtent {
  readonly format: string;
  /** Bytes of the guest's disk. */
  readonly size: number;
  readonly file: BlockSource | undefined;
  readonly grainBytes?: number;
  readonly compressed?: boolean;
  /** Offsets are those inside the extent. */
  locate(offset: number, length: number): Piece;
  readComputed?(into: Uint8Array, offset: number, piece: Piece): void;
  /** Compressed extents: puts guest bytes into new grains; returns how many were taken. */
  writeComputed?(from: Uint8Array, offset: number, below: (into: Uint8Array, offset: number) => void): number;
  writePacked?(blocks: readonly PackedBlock[]): void;
  allocate?(offset: number, length: number): Allocation;
  commit?(allocation: Allocation): void;
  markZero?(offset: number, length: number): number;
  /** True for offsets of `file` that hold header and tables. */
  protects?(offset: number): boolean;
  sync?(): void;
  check?(findings: Findings): void;
}
