import type { BlockSource } from '../../block/source.js';
import { Concat, Striped, window } from '../../block/window.js';
import { corrupt, GuestError, unsupported } from '../../core/errors.js';
import type { Member, Volume, VolumeGroup, VolumeManager } from '../manager.js';
import { type PvLabel, readLabel, readMetadata } from './label.js';
import { type GroupDescription, type LogicalDescription, parseGroup, type Segment } from './metadata.js';

interface PhysicalVolume extends Member {
  readonly label: PvLabel;
}

/** "linear" for one stripe, the metadata's own name otherwise. */
const kindOf = (s: Segment) => (s.type === 'striped' && s.stripes.length === 1 ? 'linear' : s.type);

/**
 * LVM2 physical volumes into volume groups.  Linear and striped volumes are readable; other segment types are listed
 * with their type and say so when opened.
 */
export const lvm2: VolumeManager = {
  name: 'lvm2',

  probe(source): PhysicalVolume | undefined {
    try {
      const label = readLabel(source);
      return label === undefined ? undefined : { source, type: 'LVM2_member', uuid: label.uuid, label };
    } catch (e) {
      if (e instanceof GuestError && e.code === 'corrupt') return undefined;
      throw e;
    }
  },

  assemble(members): readonly VolumeGroup[] {
    const physical = new Map((members as readonly PhysicalVolume[]).map((m) => [m.uuid, m]));
    const problems = new Map<string, string[]>();
    const newest = new Map<string, GroupDescription>();
    for (const m of physical.values())
      for (const area of m.label.metadataAreas) {
        try {
          const text = readMetadata(m.source, area);
          if (text === undefined) continue;
          const g = parseGroup(text);
          const known = newest.get(g.uuid);
          if (known !== undefined && known.sequence !== g.sequence)
            note(
              problems,
              g.uuid,
              `metadata of sequence ${Math.min(known.sequence, g.sequence)} is older than ${Math.max(known.sequence, g.sequence)}, which is used`,
            );
          if (known === undefined || g.sequence > known.sequence) newest.set(g.uuid, g);
        } catch (e) {
          if (!(e instanceof GuestError)) throw e;
          note(problems, m.uuid, `${m.source.label}: ${e.message}`);
        }
      }
    const groups = [...newest.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((g) => assembleGroup(g, physical, problems));
    // Physical volumes that no group's text names: new ones, or ones whose text could not be read.
    const claimed = new Set(groups.flatMap((g) => g.members.map((m) => m.uuid)));
    for (const m of physical.values())
      if (!claimed.has(m.uuid))
        groups.push({
          name: '',
          uuid: '',
          size: m.source.size,
          free: m.source.size,
          members: [m],
          memberSizes: new Map([[m.uuid, m.source.size]]),
          missing: [],
          volumes: [],
          problems: problems.get(m.uuid) ?? [],
        });
    return groups;
  },
};

function note(problems: Map<string, string[]>, key: string, text: string): void {
  const list = problems.get(key) ?? [];
  if (!list.includes(text)) list.push(text);
  problems.set(key, list);
}

function assembleGroup(
  g: GroupDescription,
  physical: ReadonlyMap<string, PhysicalVolume>,
  problems: ReadonlyMap<string, string[]>,
): VolumeGroup {
  const members: PhysicalVolume[] = [];
  const missing: string[] = [];
  let extents = 0;
  for (const pv of g.physical.values()) {
    extents += pv.extents;
    const m = physical.get(pv.uuid);
    if (m !== undefined) members.push(m);
    else missing.push(pv.device === undefined ? pv.uuid : `${pv.uuid} (was ${pv.device})`);
  }
  let used = 0;
  for (const lv of g.logical)
    for (const s of lv.segments)
      if (s.stripes.every((x) => g.physical.has(x.physical)) && s.stripes.length > 0) used += s.extents;
  return {
    name: g.name,
    uuid: g.uuid,
    size: extents * g.extentBytes,
    free: Math.max(0, extents - used) * g.extentBytes,
    members,
    memberSizes: new Map([...g.physical.values()].map((pv) => [pv.uuid, pv.extents * g.extentBytes])),
    missing,
    // "snapshot0" and the like only tie an origin to its store; the store carries the snapshot's name.
    volumes: g.logical
      .filter((lv) => (lv.visible || isCowStore(g, lv)) && !lv.segments.some((s) => s.type === 'snapshot'))
      .map((lv) => volumeOf(g, lv, physical))
      // As LVM's own tools list them.
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    problems: [...(problems.get(g.uuid) ?? []), ...members.flatMap((m) => problems.get(m.uuid) ?? [])],
  };
}

const isCowStore = (g: GroupDescription, lv: LogicalDescription) =>
  g.logical.some((x) => x.segments.some((s) => s.cowStore === lv.name));

function volumeOf(g: GroupDescription, lv: LogicalDescription, physical: ReadonlyMap<string, PhysicalVolume>): Volume {
  const device = `/dev/${g.name}/${lv.name}`;
  // A snapshot's own extents are a store of changed chunks, not the snapshot's contents.
  const isSnapshot = isCowStore(g, lv);
  const kinds = isSnapshot ? ['snapshot'] : [...new Set(lv.segments.map(kindOf))];
  const reason = isSnapshot ? notReadable('snapshot') : unreadable(g, lv, physical);
  return {
    device,
    name: lv.name,
    uuid: lv.uuid,
    size: lv.extents * g.extentBytes,
    kinds,
    ...(reason === undefined ? {} : { unreadable: reason.message }),
    open() {
      if (reason !== undefined) throw new GuestError(reason.code, reason.message, { device });
      return openVolume(g, lv, physical, device);
    },
  };
}

const notReadable = (type: string) =>
  unsupported(`logical volume of type "${type}" is not readable yet (readable: linear, striped)`);

/** Why a volume cannot be read: another segment type, a gap, or a physical volume that is not here. */
function unreadable(
  g: GroupDescription,
  lv: LogicalDescription,
  physical: ReadonlyMap<string, PhysicalVolume>,
): GuestError | undefined {
  let next = 0;
  for (const s of lv.segments) {
    if (s.type !== 'striped') return notReadable(s.type);
    if (s.start !== next || s.extents === 0) return corrupt(`logical volume has a gap or overlap at extent ${next}`);
    if (s.stripes.length === 0 || s.extents % s.stripes.length !== 0)
      return corrupt(`segment of ${s.extents} extents has ${s.stripes.length} stripes`);
    if (s.stripes.length > 1 && (s.stripeBytes === 0 || g.extentBytes % s.stripeBytes !== 0))
      return corrupt(`stripe size of ${s.stripeBytes} bytes does not divide the extent size ${g.extentBytes}`);
    for (const { physical: name, start } of s.stripes) {
      const pv = g.physical.get(name);
      if (pv === undefined) return unsupported(`logical volume lies on another logical volume (${name})`);
      if (!Number.isSafeInteger(start) || start < 0 || start + s.extents / s.stripes.length > pv.extents)
        return corrupt(`segment at extent ${start} of ${name} leaves the physical volume of ${pv.extents} extents`);
      if (!physical.has(pv.uuid))
        return new GuestError(
          'not-found',
          `physical volume ${pv.uuid}${pv.device === undefined ? '' : ` (was ${pv.device})`} is missing: add its disk too`,
        );
    }
    next += s.extents;
  }
  return lv.segments.length === 0 ? corrupt('logical volume has no segments') : undefined;
}

function openVolume(
  g: GroupDescription,
  lv: LogicalDescription,
  physical: ReadonlyMap<string, PhysicalVolume>,
  device: string,
): BlockSource {
  const parts = lv.segments.map((s) => {
    const stripes = s.stripes.map(({ physical: name, start }) => {
      const pv = g.physical.get(name)!;
      return window(
        physical.get(pv.uuid)!.source,
        pv.dataStart + start * g.extentBytes,
        (s.extents / s.stripes.length) * g.extentBytes,
        device,
      );
    });
    return stripes.length === 1 ? stripes[0]! : new Striped(stripes, s.stripeBytes, device);
  });
  return parts.length === 1 ? parts[0]! : new Concat(parts, device);
}
