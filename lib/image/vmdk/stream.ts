import { randomBytes } from 'node:crypto';
import { alignUp, isZero } from '../../core/bytes.js';
import { GuestError, usage } from '../../core/errors.js';
import { encodeDescriptor, NO_PARENT } from './descriptor.js';
import { compressedGrain } from './sparse.js';
import { flag, GD_AT_END, GrainMarker, HostedHeader, KDMV, marker, SECTOR } from './structs.js';

const GRAIN_SECTORS = 128;
const GRAIN = GRAIN_SECTORS * SECTOR;
const GTES = 512;
const DESCRIPTOR_SECTORS = 20;
const MAX_SECTOR = 0xffffffff;

export interface StreamOptions {
  readonly size: number;
  /** The file's name, as the descriptor gives it. */
  readonly name: string;
  readonly adapterType?: string;
  readonly hwVersion?: string;
  readonly toolsVersion?: string;
}

/**
 * Writes a stream-optimized VMDK as OVF wants it: one pass, nothing written twice, so `emit` may be a pipe or a tar entry.
 * Guest bytes come in ascending order; what is left out, and grains of zeroes, take no space.
 */
export class StreamOptimizedWriter {
  readonly #directory: Uint32Array;
  readonly #table = new Uint8Array(GTES * 4);
  readonly #tableView = new DataView(this.#table.buffer);
  #tableUsed = false;
  #tableIndex = 0;
  readonly #grain = new Uint8Array(GRAIN);
  #grainIndex = -1;
  #next = 0;
  #sector = 0;
  #finished = false;

  constructor(
    private readonly emit: (bytes: Uint8Array) => void,
    private readonly options: StreamOptions,
  ) {
    if (!Number.isSafeInteger(options.size) || options.size < 0 || options.size > 64 * 2 ** 40)
      throw usage(`vmdk: ${options.size} bytes is not a size up to 64 TiB`);
    this.#directory = new Uint32Array(Math.ceil(this.#size / (GRAIN * GTES)));
    this.#put(this.#header(GD_AT_END));
    this.#put(this.#descriptor());
    this.#put(new Uint8Array((GRAIN_SECTORS - 1 - DESCRIPTOR_SECTORS) * SECTOR));
  }

  get #size(): number {
    return alignUp(this.options.size, SECTOR);
  }

  #put(bytes: Uint8Array): void {
    this.emit(bytes);
    this.#sector += bytes.length / SECTOR;
    if (this.#sector > MAX_SECTOR) throw new GuestError('no-space', 'a stream-optimized VMDK cannot be larger than 2 TiB');
  }

  #header(gdOffset: bigint): Uint8Array {
    const b = new Uint8Array(SECTOR);
    b.set(
      HostedHeader.encode({
        magic: KDMV,
        version: 3,
        flags: flag.newlineTest | flag.compressed | flag.markers,
        capacity: this.#size / SECTOR,
        grainSize: GRAIN_SECTORS,
        descriptorOffset: 1,
        descriptorSize: DESCRIPTOR_SECTORS,
        numGTEsPerGT: GTES,
        gdOffset,
        overHead: GRAIN_SECTORS,
        newlineTest: Uint8Array.of(10, 32, 13, 10),
        compressAlgorithm: 1,
      }),
    );
    return b;
  }

  #descriptor(): Uint8Array {
    const { name, adapterType = 'lsilogic', hwVersion = '4', toolsVersion = '2147483647' } = this.options;
    const heads = adapterType === 'ide' ? 16 : 255;
    const text = encodeDescriptor({
      cid: randomBytes(4).readUInt32LE() & 0x7ffffffe,
      parentCid: NO_PARENT,
      createType: 'streamOptimized',
      extents: [`RW ${this.#size / SECTOR} SPARSE "${name}"`],
      hwVersion,
      cylinders: Math.floor(this.#size / (63 * heads * SECTOR)),
      heads,
      adapterType,
      toolsVersion,
    });
    const b = new Uint8Array(DESCRIPTOR_SECTORS * SECTOR);
    if (text.length > b.length)
      throw usage(`vmdk: the file name is too long for the descriptor (${text.length} of ${b.length} bytes)`);
    b.set(text);
    return b;
  }

  write(from: Uint8Array, offset: number): void {
    if (this.#finished || offset < this.#next || offset + from.length > this.#size)
      throw usage(`vmdk stream: ${from.length} bytes at ${offset} (the stream is at ${this.#next} of ${this.#size})`);
    this.#next = offset + from.length;
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const index = Math.floor(at / GRAIN);
      const inside = at - index * GRAIN;
      const n = Math.min(GRAIN - inside, from.length - done);
      if (index !== this.#grainIndex) {
        this.#endGrain();
        this.#grainIndex = index;
      }
      this.#grain.set(from.subarray(done, done + n), inside);
      done += n;
    }
  }

  #endGrain(): void {
    if (this.#grainIndex >= 0 && !isZero(this.#grain)) {
      const table = Math.floor(this.#grainIndex / GTES);
      if (table !== this.#tableIndex) {
        this.#endTable();
        this.#tableIndex = table;
      }
      this.#tableView.setUint32((this.#grainIndex % GTES) * 4, this.#sector, true);
      this.#tableUsed = true;
      this.#put(compressedGrain(this.#grainIndex * GRAIN_SECTORS, this.#grain, true));
      this.#grain.fill(0);
    }
    this.#grainIndex = -1;
  }

  #endTable(): void {
    if (!this.#tableUsed) return;
    this.#mark(marker.grainTable, this.#table.length / SECTOR);
    this.#directory[this.#tableIndex] = this.#sector;
    this.#put(this.#table.slice());
    this.#table.fill(0);
    this.#tableUsed = false;
  }

  #mark(type: number, sectors: number): void {
    const b = new Uint8Array(SECTOR);
    const m = GrainMarker.at(b);
    m.value = sectors;
    m.type = type;
    this.#put(b);
  }

  /** Writes the directory, the footer and the end mark.  Nothing may follow. */
  finish(): void {
    if (this.#finished) return;
    this.#endGrain();
    this.#endTable();
    this.#finished = true;
    const directory = new Uint8Array(alignUp(this.#directory.length * 4, SECTOR));
    const view = new DataView(directory.buffer);
    for (const [i, s] of this.#directory.entries()) view.setUint32(i * 4, s, true);
    this.#mark(marker.grainDirectory, directory.length / SECTOR);
    const at = this.#sector;
    this.#put(directory);
    this.#mark(marker.footer, 1);
    this.#put(this.#header(BigInt(at)));
    this.#mark(marker.endOfStream, 0);
  }
}
