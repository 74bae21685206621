import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { GuestError } from '../../lib/core/errors.js';
import { schemeOf, schemes } from '../../lib/partition/registry.js';
import type { PartitionTable } from '../../lib/partition/scheme.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();

interface SfdiskPartition {
  readonly node: string;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly uuid?: string;
  readonly name?: string;
}
/** The partitions that sfdisk lists, as number, byte start, byte size, type; those outside the disk left out, as we do. */
function fromSfdisk(table: { partitions?: readonly SfdiskPartition[]; sectorsize: number }, diskSize: number) {
  return (table.partitions ?? [])
    .map((p) => ({
      number: Number(/[0-9]+$/.exec(p.node)![0]),
      start: p.start * table.sectorsize,
      size: p.size * table.sectorsize,
      type: p.type.length <= 2 ? p.type.toLowerCase().padStart(2, '0') : p.type,
    }))
    .filter((p) => p.start + p.size <= diskSize);
}
const ours = (t: PartitionTable, diskSize: number) =>
  t.partitions
    .map(({ number, start, size, type }) => ({ number, start, size, type }))
    .filter((p) => p.start + p.size < diskSize || p.start > 0);

function readTable(path: string, sectorSize?: number): PartitionTable | undefined {
  const disk = openFile(path, sectorSize === undefined ? {} : { sectorSize });
  try {
    return schemeOf(disk)?.read(disk);
  } finally {
    disk.close();
  }
}

describe('tables that sfdisk made', () => {
  const disk = (name: string, script: string, ...args: string[]) => {
    const path = join(dir, name);
    writeFileSync(path, '');
    truncateSync(path, 64 << 20);
    run('sfdisk', ['-q', ...args, path], { input: script });
    return path;
  };
  const expected = (path: string) => fromSfdisk(JSON.parse(run('sfdisk', ['--json', path])).partitiontable, statSync(path).size);

  itNeeds('sfdisk')('GPT with names, types and a gap in the numbers', () => {
    const path = disk('gpt.img', 'label: gpt\n1: size=8M, type=U, name="EFI ä"\n3: size=16M, type=L\n128: type=S\n');
    const t = readTable(path)!;
    expect(t.scheme).toBe('gpt');
    expect(t.problems).toEqual([]);
    expect(ours(t, 64 << 20)).toEqual(expected(path));
    expect(t.partitions[0]!.name).toBe('EFI ä');
    const uuids = (JSON.parse(run('sfdisk', ['--json', path])).partitiontable.partitions as SfdiskPartition[]).map((p) => p.uuid);
    expect(t.partitions.map((p) => p.id)).toEqual(uuids);
  });

  itNeeds('sfdisk')('MBR with primary and many logical partitions', () => {
    const path = disk('mbr.img', `label: dos\n1: size=8M, type=c, bootable\n2: type=5\n${'size=1M, type=83\n'.repeat(24)}`);
    const t = readTable(path)!;
    expect(t.partitions).toHaveLength(26);
    expect(t.partitions.map(({ number, start, size, type }) => ({ number, start, size, type }))).toEqual(expected(path));
    expect(t.partitions[0]!.bootable).toBe(true);
    expect(t.partitions[5]!.id).toMatch(/^[0-9a-f]{8}-08$/);
  });

  const canLoop = process.getuid?.() === 0 && hasTool('losetup');
  (canLoop ? itNeeds('sfdisk') : itIf(false, 'loop devices need root'))('tables of disks with 4096-byte sectors', () => {
    for (const label of ['gpt', 'dos']) {
      const path = join(dir, `4k-${label}.img`);
      writeFileSync(path, '');
      truncateSync(path, 64 << 20);
      const loop = run('losetup', ['-f', '--show', '-b', '4096', path]).trim();
      try {
        run('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', loop], { input: `label: ${label}\n1: size=8M\n2: size=16M\n` });
      } finally {
        run('losetup', ['-d', loop]);
      }
      const t = readTable(path, 4096)!;
      expect(t.sectorSize).toBe(4096);
      expect(t.partitions.map((p) => p.size)).toEqual([8 << 20, 16 << 20]);
      // A GPT says where its headers are; an MBR's numbers mean nothing without the sector size.
      if (label === 'gpt') expect(readTable(path)).toMatchObject({ sectorSize: 4096, partitions: t.partitions });
    }
  });

  itNeeds('sfdisk')('the backup is used when the primary header is damaged, and says so', () => {
    const path = disk('damaged.img', 'label: gpt\nsize=8M\nsize=16M\n');
    const whole = readTable(path)!;
    const bytes = readFileSync(path);
    bytes[512 + 60]! ^= 1;
    const t = schemes[0]!.read(new MemorySource(bytes));
    expect(t.partitions).toEqual(whole.partitions);
    expect(t.problems.join()).toMatch(/primary: GPT header CRC .* the backup was used/);
    bytes.fill(0, 512, 34 * 512);
    const wiped = new MemorySource(bytes);
    expect(schemeOf(wiped)?.name).toBe('gpt');
    expect(schemes[0]!.read(wiped).partitions).toEqual(whole.partitions);
    bytes[bytes.length - 512 + 60]! ^= 1;
    expect(() => schemes[0]!.read(new MemorySource(bytes))).toThrow(/both GPT headers are damaged/);
  });
});

describe('the shared tables', () => {
  for (const e of sharedEntries().filter((x) => ['gpt', 'mbr'].includes(x.kind))) {
    itIf(hasSharedData(), noSharedData)(e.name, () => {
      const path = sharedFile(e.name);
      const size = statSync(path).size;
      const sectorSize = e.name.includes('4096') ? 4096 : undefined;
      const facts = e.expected?.sfdisk?.table ?? e.expected?.partitions?.table;
      if (e.name.includes('entries-count-huge')) {
        // The mutation left both header checksums wrong.
        expect(() => readTable(path)).toThrow(/both GPT headers are damaged/);
        return;
      }
      const t = readTable(path, sectorSize);
      if (e.bad) {
        // Every damaged table ends in a list that lies inside the disk, never in an exception.
        for (const p of t?.partitions ?? []) expect(p.start + p.size).toBeLessThanOrEqual(size);
        return;
      }
      const want = fromSfdisk(facts, size);
      if (sectorSize === undefined && want.length > 0)
        expect((t?.partitions ?? []).map(({ number, start, size: s, type }) => ({ number, start, size: s, type }))).toEqual(want);
    });
  }
  itIf(hasSharedData(), noSharedData)('a loop in the chain of logical partitions ends and is reported', () => {
    const t = readTable(sharedFile('bad/mbr/ebr-loop.mbr.zst'))!;
    expect(t.problems.join()).toMatch(/returns to sector/);
    expect(t.partitions.length).toBeLessThan(12);
  });
});

it('a FAT or NTFS boot sector is no partition table', () => {
  const b = new Uint8Array(1 << 20);
  b.set([0xeb, 0x3c, 0x90, ...Buffer.from('mkfs.fat'), 0, 2]);
  b.set(Buffer.from('FAT16   '), 54);
  b.set([0x55, 0xaa], 510);
  expect(schemeOf(new MemorySource(b))).toBeUndefined();
});

it('random damage to tables ends in a table or in a GuestError', () => {
  const seeds: Uint8Array[] = [];
  for (const [label, extra] of [
    ['gpt', 'size=1M\nsize=1M\n'],
    ['dos', '1: size=1M\n2: type=5\nsize=200K\nsize=200K\n'],
  ] as const) {
    const path = join(dir, `fuzz-${label}`);
    writeFileSync(path, '');
    truncateSync(path, 8 << 20);
    run('sfdisk', ['-q', path], { input: `label: ${label}\n${extra}` });
    seeds.push(readFileSync(path));
  }
  fc.assert(
    fc.property(
      fc.nat(1),
      fc.array(fc.tuple(fc.nat(34 * 512 - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      (which, edits) => {
        const bytes = Uint8Array.from(seeds[which]!);
        for (const [at, v] of edits) bytes[which === 0 ? at : [446 + (at % 66), 2048 * 512 + 446 + (at % 66)][at & 1]!] = v;
        const disk = new MemorySource(bytes);
        for (const s of schemes) {
          s.probe(disk);
          try {
            for (const p of s.read(disk).partitions) expect(p.start + p.size).toBeLessThanOrEqual(disk.size);
          } catch (e) {
            expect(e).toBeInstanceOf(GuestError);
          }
        }
      },
    ),
    { numRuns: 300, seed: 11 },
  );
});
