import { corrupt } from '../../core/errors.js';
import { dashed } from './label.js';
import { listOf, numberOf, parseText, type Section, stringOf } from './text.js';

/** A volume group as its metadata text describes it; sizes in extents, unless they say bytes. */
export interface GroupDescription {
  readonly name: string;
  readonly uuid: string;
  readonly sequence: number;
  readonly extentBytes: number;
  readonly physical: ReadonlyMap<string, PhysicalDescription>;
  readonly logical: readonly LogicalDescription[];
}
export interface PhysicalDescription {
  readonly uuid: string;
  /** What the device was called when the metadata was written; a hint only. */
  readonly device?: string;
  /** Bytes from the start of the PV to its first extent. */
  readonly dataStart: number;
  readonly extents: number;
}
export interface LogicalDescription {
  readonly name: string;
  readonly uuid: string;
  readonly visible: boolean;
  readonly segments: readonly Segment[];
  readonly extents: number;
}
export interface Segment {
  readonly start: number;
  readonly extents: number;
  /** "striped" (also linear: one stripe), "thin", "raid1", "snapshot", … */
  readonly type: string;
  readonly stripeBytes: number;
  readonly stripes: readonly { readonly physical: string; readonly start: number }[];
  /** Type "snapshot" only: the volume whose extents hold the changed chunks. */
  readonly cowStore?: string;
}

const SECTOR = 512;

export function parseGroup(text: string): GroupDescription {
  const top = parseText(text);
  // The group is the one section that has an id; the others are about who wrote the text.
  for (const [name, s] of top.sections) if (s.values.has('id') && s.sections.has('physical_volumes')) return group(name, s);
  throw corrupt('LVM metadata: no volume group in the text');
}

function group(name: string, s: Section): GroupDescription {
  const extentBytes = numberOf(s, 'extent_size', name) * SECTOR;
  if (extentBytes === 0 || !Number.isSafeInteger(extentBytes))
    throw corrupt(`LVM metadata: ${name}: extent_size is ${extentBytes / SECTOR} sectors`);
  const physical = new Map<string, PhysicalDescription>();
  for (const [key, pv] of s.sections.get('physical_volumes')?.sections ?? []) {
    const device = pv.values.get('device');
    physical.set(key, {
      uuid: dashed(stringOf(pv, 'id', key).replaceAll('-', '')),
      ...(typeof device === 'string' ? { device } : {}),
      dataStart: numberOf(pv, 'pe_start', key) * SECTOR,
      extents: numberOf(pv, 'pe_count', key),
    });
  }
  const logical: LogicalDescription[] = [];
  for (const [key, lv] of s.sections.get('logical_volumes')?.sections ?? []) logical.push(logicalVolume(key, lv));
  return {
    name,
    uuid: dashed(stringOf(s, 'id', name).replaceAll('-', '')),
    sequence: numberOf(s, 'seqno', name),
    extentBytes,
    physical,
    logical,
  };
}

function logicalVolume(name: string, lv: Section): LogicalDescription {
  const segments: Segment[] = [];
  let extents = 0;
  for (const [key, seg] of lv.sections) {
    if (!/^segment[0-9]+$/.test(key)) continue;
    const where = `${name}/${key}`;
    const type = stringOf(seg, 'type', where);
    const list = listOf(seg, 'stripes');
    const stripes: { physical: string; start: number }[] = [];
    for (let i = 0; i + 1 < list.length; i += 2) stripes.push({ physical: String(list[i]), start: Number(list[i + 1]) });
    const cow = seg.values.get('cow_store');
    const segment: Segment = {
      start: numberOf(seg, 'start_extent', where),
      extents: numberOf(seg, 'extent_count', where),
      type,
      stripeBytes: seg.values.has('stripe_size') ? numberOf(seg, 'stripe_size', where) * SECTOR : 0,
      stripes,
      ...(typeof cow === 'string' ? { cowStore: cow } : {}),
    };
    segments.push(segment);
    extents = Math.max(extents, segment.start + segment.extents);
  }
  segments.sort((a, b) => a.start - b.start);
  return {
    name,
    uuid: dashed(stringOf(lv, 'id', name).replaceAll('-', '')),
    visible: listOf(lv, 'status').includes('VISIBLE'),
    segments,
    extents,
  };
}
