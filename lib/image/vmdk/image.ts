import type { BlockSource } from '../../block/source.js';
import { corrupt, hex, unsupported } from '../../core/errors.js';
import type { CheckResult, ImageInfo, OpenContext } from '../format.js';
import { type Allocation, Findings, isImage, type Mapping, type PackedBlock, type Piece } from '../mapped.js';
import { type Descriptor, NO_PARENT } from './descriptor.js';
import type { DiskExtent } from './extent.js';
import { ZeroExtent } from './flat.js';

/** A VMDK disk: its extents one after another, over its parent. */
export class VmdkMapping implements Mapping {
  readonly format = 'vmdk';
  readonly sectorSize = 512;
  readonly size: number;
  readonly #starts: number[] = [];
  readonly #owned: BlockSource[];
  #last = 0;

  constructor(
    readonly file: BlockSource,
    readonly descriptor: Descriptor | undefined,
    readonly extents: readonly DiskExtent[],
    readonly backing: BlockSource | undefined,
    private readonly options: {
      readonly path: string | undefined;
      /** Files opened for this disk: it closes them. */
      readonly owned: readonly BlockSource[];
      readonly firstWrite?: (() => void) | undefined;
    },
  ) {
    let size = 0;
    for (const e of extents) {
      this.#starts.push(size);
      size += e.size;
      if (!Number.isSafeInteger(size)) throw corrupt(`${file.label}: the extents together are too large`);
    }
    this.size = size;
    this.#owned = [...options.owned];
  }

  #find(offset: number): number {
    const starts = this.#starts;
    const last = this.#last;
    if (starts[last]! <= offset && offset < starts[last]! + this.extents[last]!.size) return last;
    let lo = 0;
    let hi = starts.length - 1;
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1;
      if (starts[mid]! <= offset) lo = mid;
      else hi = mid - 1;
    }
    this.#last = lo;
    return lo;
  }

  locate(offset: number, length: number): Piece {
    const i = this.#find(offset);
    const inside = offset - this.#starts[i]!;
    const e = this.extents[i]!;
    return e.locate(inside, Math.min(length, e.size - inside));
  }

  readComputed(into: Uint8Array, offset: number, piece: Piece): void {
    const i = this.#find(offset);
    this.extents[i]!.readComputed!(into, offset - this.#starts[i]!, piece);
  }

  writeComputed(from: Uint8Array, offset: number, below: (into: Uint8Array, offset: number) => void): number {
    const i = this.#find(offset);
    const e = this.extents[i]!;
    const start = this.#starts[i]!;
    if (e.writeComputed === undefined || e.compressed !== true) return 0;
    return e.writeComputed(from, offset - start, (into, at) => below(into, at + start));
  }

  get packed(): boolean {
    return this.extents.some((e) => e.compressed === true);
  }
  writePacked(blocks: readonly PackedBlock[]): void {
    const e = this.extents[0];
    if (this.extents.length !== 1 || e?.writePacked === undefined)
      throw unsupported(`${this.file.label}: only disks of one compressed extent take compressed blocks`);
    e.writePacked(blocks);
  }

  allocate(offset: number, length: number): Allocation {
    const i = this.#find(offset);
    const e = this.extents[i]!;
    const start = this.#starts[i]!;
    if (e.allocate === undefined) throw corrupt(`${this.file.label}: ${e.format} extents cannot be written`);
    const a = e.allocate(offset - start, Math.min(length, start + e.size - offset));
    return { ...a, start: a.start + start, length: Math.min(a.length, e.size - a.start), ticket: { extent: e, allocation: a } };
  }

  commit(a: Allocation): void {
    const { extent, allocation } = a.ticket as { extent: DiskExtent; allocation: Allocation };
    extent.commit!(allocation);
  }

  /** Asked right after `locate`: the piece's extent is the last one found. */
  protects(offset: number): boolean {
    return this.extents[this.#last]?.protects?.(offset) ?? false;
  }

  markZero(offset: number, length: number): number {
    const i = this.#find(offset);
    const e = this.extents[i]!;
    const inside = offset - this.#starts[i]!;
    return e.markZero?.(inside, Math.min(length, e.size - inside)) ?? 0;
  }

  firstWrite(): void {
    this.options.firstWrite?.();
  }

  sync(): void {
    for (const e of this.extents) e.sync?.();
    for (const s of this.#owned) if ('flush' in s && s !== this.backing) (s as BlockSource & { flush(): void }).flush();
  }

  describe(): ImageInfo {
    const { descriptor, extents } = this;
    const own = this.options.path ?? this.file.label;
    const grain = extents[0]?.grainBytes;
    return {
      format: 'vmdk',
      virtualSize: this.size,
      ...(grain !== undefined && extents.every((e) => e.grainBytes === grain) ? { clusterSize: grain } : {}),
      compressed: extents.some((e) => e.compressed === true),
      ...(descriptor?.parentHint !== undefined && descriptor.parentCid !== NO_PARENT
        ? { backingName: descriptor.parentHint, backingFormat: 'vmdk' }
        : {}),
      snapshots: [],
      features: [],
      specific: {
        cid: descriptor?.cid ?? 0,
        'parent-cid': descriptor?.parentCid ?? NO_PARENT,
        'create-type': descriptor?.createType ?? 'monolithicSparse',
        extents: extents.map((e) => ({
          ...(e.compressed === true ? { compressed: true } : {}),
          'virtual-size': e.size,
          ...(e.file === undefined ? {} : { filename: e.file === this.file ? own : e.file.label }),
          ...(e.grainBytes === undefined ? {} : { 'cluster-size': e.grainBytes }),
          format: e.file === this.file ? '' : e.format,
        })),
      },
      extentFiles: extents.flatMap((e) => (e.file === undefined || e.file === this.file ? [] : [e.file.label])),
    };
  }

  check(): CheckResult {
    const findings = new Findings();
    for (const e of this.extents) if (!(e instanceof ZeroExtent)) e.check?.(findings);
    const end = this.extents.reduce((n, e) => n + (e.file?.size ?? 0), 0);
    return findings.result({ imageEnd: end });
  }

  close(): void {
    for (const s of this.#owned.splice(0)) s.close();
  }
}

/** Opens the parent the descriptor names and holds its content id against what this image was made over. */
export function openParent(descriptor: Descriptor, label: string, context: OpenContext): BlockSource | undefined {
  if (descriptor.parentCid === NO_PARENT || context.noBacking === true) return undefined;
  if (descriptor.parentHint === undefined)
    throw corrupt(`${label}: the descriptor has parent CID ${hex(descriptor.parentCid)} but names no parent file`);
  const parent = context.openReference({ role: 'backing', name: descriptor.parentHint, format: 'vmdk' });
  const cid = isImage(parent) && parent.format === 'vmdk' ? parent.describe().specific?.['cid'] : undefined;
  if (typeof cid === 'number' && cid !== descriptor.parentCid) {
    parent.close();
    throw corrupt(
      `${label}: parent "${descriptor.parentHint}" has CID ${hex(cid)}, expected ${hex(descriptor.parentCid)} (it was changed after this image was made)`,
    );
  }
  return parent;
}
