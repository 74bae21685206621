import type { BlockSource, ResizableSource } from '../../block/source.js';
import { GuestError } from '../../core/errors.js';
import { Lru } from '../../core/lru.js';
import type { SectorCipher } from '../../crypto/sector.js';
import type { Header } from './header.js';
import { encodeHeader } from './header.js';
import { INCOMPAT_COMPRESSION, INCOMPAT_DATA_FILE, INCOMPAT_EXTENDED_L2 } from './structs.js';
import { readTable, Table, TableCache } from './table.js';

/** Memory for L2 tables and for decompressed clusters. */
const L2_CACHE_BYTES = 16 << 20;
const DECOMPRESSED_BYTES = 8 << 20;

/** What all parts of an open qcow2 image share: header, geometry, tables, the files below. */
export class State {
  readonly clusterSize: number;
  /** Bytes of an L2 entry: 16 with subclusters. */
  readonly entryBytes: number;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  readonly extended: boolean;
  readonly subclusterSize: number;
  readonly hasDataFile: boolean;
  /** The active L1 table; replaced when it grows. */
  l1: Table;
  readonly l2: TableCache;
  readonly decompressed = new Lru<number, Uint8Array>(DECOMPRESSED_BYTES);
  dataFile: BlockSource;
  backing: BlockSource | undefined;
  cipher: SectorCipher | undefined;
  /** Legacy AES counts guest sectors, LUKS host sectors. */
  cipherByGuest = false;
  /** Set by the writing side: writes all metadata back in order. */
  writeBack: () => void = () => {};

  constructor(
    readonly file: BlockSource,
    readonly header: Header,
    readonly label: string,
  ) {
    this.clusterSize = 2 ** header.clusterBits;
    this.extended = (header.incompatible & INCOMPAT_EXTENDED_L2) !== 0n;
    this.entryBytes = this.extended ? 16 : 8;
    this.l2Entries = this.clusterSize / this.entryBytes;
    this.subclusterSize = this.extended ? this.clusterSize / 32 : this.clusterSize;
    this.hasDataFile = (header.incompatible & INCOMPAT_DATA_FILE) !== 0n;
    this.dataFile = file;
    this.l1 =
      header.l1Size === 0
        ? new Table(new Uint8Array(0), header.l1Offset)
        : readTable(file, header.l1Offset, header.l1Size * 8, 'L1 table');
    this.l2 = new TableCache(file, this.clusterSize, L2_CACHE_BYTES, 'L2 table', () => this.writeBack());
  }

  get compressionType(): number {
    return (this.header.incompatible & INCOMPAT_COMPRESSION) !== 0n ? this.header.compressionType : 0;
  }
  /** The file, when it may be written. */
  get target(): ResizableSource {
    const f = this.file as Partial<ResizableSource>;
    if (typeof f.write !== 'function') throw new GuestError('read-only', `${this.label} is open for reading only`);
    return this.file as ResizableSource;
  }
  writeHeader(): void {
    this.target.write(encodeHeader(this.header), 0);
  }
}
