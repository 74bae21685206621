import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../lib/block/file.js';
import { MemorySource } from '../../lib/block/memory.js';
import { readAt } from '../../lib/block/source.js';
import { window } from '../../lib/block/window.js';
import { GuestError } from '../../lib/core/errors.js';
import { lvm2 } from '../../lib/volume/lvm2/index.js';
import { parseText } from '../../lib/volume/lvm2/text.js';
import { noKeys, type VolumeGroup } from '../../lib/volume/manager.js';
import { hasTool, itIf, itNeeds, run } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

const dir = temporaryFolder();
const CONFIG =
  'devices { dir="/dev" scan=["/dev"] use_devicesfile=0 filter=["a|.*|"] } global { locking_type=0 use_lvmpolld=0 event_activation=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 }';

/** Runs `body` with files as loop devices, which is where LVM's own tools write their metadata without device-mapper. */
function withLoops<T>(files: readonly string[], body: (devices: readonly string[]) => T): T {
  const devices: string[] = [];
  try {
    for (const f of files) devices.push(run('losetup', ['-f', '--show', f]).trim());
    return body(devices);
  } finally {
    for (const d of devices) run('losetup', ['-d', d]);
  }
}
const canLoop = hasTool('losetup') && process.getuid?.() === 0 && spawnSync('losetup', ['-f']).status === 0;
const lvm = (command: string, ...args: string[]) => run(command, [...args, '--driverloaded', 'n', '--config', CONFIG]);

describe('groups that LVM’s own tools wrote', () => {
  const make = () => {
    const files = ['a', 'b'].map((n) => join(dir, `pv-${n}.img`));
    for (const f of files) {
      writeFileSync(f, '');
      truncateSync(f, 64 << 20);
    }
    withLoops(files, (devices) => {
      lvm('pvcreate', '-y', '-q', ...devices);
      lvm('vgcreate', '-y', '-q', '-s', '1M', 'vg-one', ...devices);
      lvm('lvcreate', '-an', '-Zn', '-Wn', '-y', '-q', '-n', 'linear', '-l', '10', 'vg-one', devices[0]!);
      lvm('lvcreate', '-an', '-Zn', '-Wn', '-y', '-q', '-n', 'striped', '-l', '20', '-i', '2', '-I', '64k', 'vg-one');
      lvm('lvcreate', '-an', '-Zn', '-Wn', '-y', '-q', '-n', 'over', '-l', '70', 'vg-one');
      for (let i = 0; i < 30; i++) lvm('lvchange', '--addtag', `tag${i}`, 'vg-one/linear');
    });
    return files;
  };
  const test = canLoop ? itNeeds('lvcreate', 'losetup') : itIf(false, 'loop devices need root');

  test('names, sizes, kinds; contents by where the extents lie', () => {
    const files = make();
    const sources = files.map((f) => openFile(f));
    const members = sources.map((s) => lvm2.probe(s)!);
    const [vg] = lvm2.assemble(members, noKeys) as [VolumeGroup];
    expect(vg).toMatchObject({ name: 'vg-one', missing: [], problems: [] });
    expect(vg.volumes.map((v) => [v.device, v.size, v.kinds])).toEqual([
      ['/dev/vg-one/linear', 10 << 20, ['linear']],
      ['/dev/vg-one/over', 70 << 20, ['linear']],
      ['/dev/vg-one/striped', 20 << 20, ['striped']],
    ]);
    // Segments as LVM prints them: "pv:start-end" in extents; write marks there, read them through the volume.
    const report = withLoops(files, (d) => ({
      text: lvm(
        'lvs',
        '--noheadings',
        '--units',
        'b',
        '--nosuffix',
        '-o',
        'lv_name,seg_start,seg_size,seg_pe_ranges',
        '--separator',
        '|',
      ),
      d,
      peStart: Number(lvm('pvs', '--noheadings', '--units', 'b', '--nosuffix', '-o', 'pe_start', d[0]!)),
    }));
    const marks: { lv: string; at: number; text: string }[] = [];
    for (const line of report.text.trim().split('\n')) {
      const [lv, segStart, , ranges] = line.trim().split('|') as [string, string, string, string];
      ranges.split(' ').forEach((range, stripe) => {
        const [device, first] = /^(\S+):([0-9]+)-/.exec(range)!.slice(1) as [string, string];
        const text = `mark ${lv} ${segStart} ${stripe}`.padEnd(32);
        const fd = openSync(files[report.d.indexOf(device)]!, 'r+');
        writeSync(fd, text, report.peStart + Number(first) * (1 << 20));
        closeSync(fd);
        marks.push({ lv, at: Number(segStart) + stripe * 65536, text });
      });
    }
    expect(marks.length).toBeGreaterThanOrEqual(5);
    for (const m of marks) {
      const v = vg.volumes.find((x) => x.name === m.lv)!.open();
      expect(Buffer.from(readAt(v, m.at, m.text.length)).toString()).toBe(m.text);
    }
    for (const s of sources) s.close();
  });

  test('a missing physical volume is named, and what lies elsewhere is still readable', () => {
    const files = make();
    const source = openFile(files[0]!);
    const [vg] = lvm2.assemble([lvm2.probe(source)!], noKeys) as [VolumeGroup];
    expect(vg.missing).toHaveLength(1);
    expect(vg.volumes.find((v) => v.name === 'linear')!.unreadable).toBeUndefined();
    expect(() => vg.volumes.find((v) => v.name === 'striped')!.open()).toThrow(/physical volume .* is missing: add its disk too/);
    source.close();
  });

  test('a text whose checksum is wrong is reported, not used', () => {
    const bytes = readFileSync(make()[0]!).subarray(0, 2 << 20);
    const current = 4096 + bytes.readUInt32LE(4096 + 40);
    const at = bytes.indexOf('extent_size', current);
    expect(at).toBeGreaterThan(current);
    bytes[at] = 0x45;
    const [g] = lvm2.assemble([lvm2.probe(new MemorySource(bytes))!], noKeys) as [VolumeGroup];
    expect(g.volumes).toEqual([]);
    expect(g.problems.join()).toMatch(/metadata text at 0x[0-9a-f]+ has CRC/);
  });

  test('damaged metadata ends in a problem or a GuestError, never in anything else', () => {
    const file = make()[0]!;
    const bytes = readFileSync(file).subarray(0, 2 << 20);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(16384), fc.nat(255)), { minLength: 1, maxLength: 6 }), (edits) => {
        const copy = Uint8Array.from(bytes);
        for (const [at, v] of edits) copy[at] = v;
        const m = lvm2.probe(new MemorySource(copy));
        if (m === undefined) return;
        for (const g of lvm2.assemble([m], noKeys))
          for (const v of g.volumes)
            try {
              v.open();
            } catch (e) {
              expect(e).toBeInstanceOf(GuestError);
            }
      }),
      { numRuns: 100, seed: 5 },
    );
  });
});

describe('the shared group over three disks', () => {
  itIf(hasSharedData(), noSharedData)('lists what LVM lists; linear and striped volumes open, others say why not', () => {
    const a = openFile(sharedFile('lvm/lvm-a.img.zst'));
    const b = openFile(sharedFile('lvm/lvm-b.img.zst'));
    const c = openFile(sharedFile('lvm/lvm-c.img.zst'));
    let start = 0;
    for (let at = 0; at < a.size && start === 0; at += 1 << 20)
      if (lvm2.probe(window(a, at, a.size - at)) !== undefined) start = at;
    const members = [window(a, start, a.size - start), b, c].map((s) => lvm2.probe(s)!);
    const [vg] = lvm2.assemble(members, noKeys) as [VolumeGroup];
    expect(vg.name).toBe('vg_alpha');
    const kinds = Object.fromEntries(
      vg.volumes.map((v) => [v.name, v.unreadable === undefined ? v.kinds.join() : `unreadable ${v.kinds.join()}`]),
    );
    expect(kinds).toMatchObject({
      root: 'linear',
      stripe: 'striped',
      frag1: 'linear',
      keep: 'linear',
      mirr: 'unreadable raid1',
      rootsnap: 'unreadable snapshot',
      pool: 'unreadable thin-pool',
      thin1: 'unreadable thin',
    });
    expect(vg.volumes.find((v) => v.name === 'frag1')!.size).toBe(41943040);
    expect(() => vg.volumes.find((v) => v.name === 'thin1')!.open()).toThrow('logical volume of type "thin" is not readable yet');
    for (const v of vg.volumes.filter((x) => x.unreadable === undefined)) {
      const s = v.open();
      createHash('sha256')
        .update(readAt(s, 0, 65536))
        .update(readAt(s, s.size - 65536, 65536));
    }
    for (const s of [a, b, c]) s.close();
  });
});

it('the text parser reads strings, lists, comments and nested sections, and refuses what does not end', () => {
  const t = parseText('a = 1 # note\nb { c = ["x\\"y", 2, -3]\n d { e = "z" } }\n');
  expect(t.values.get('a')).toBe(1);
  expect(t.sections.get('b')!.values.get('c')).toEqual(['x"y', 2, -3]);
  for (const bad of ['a {', 'a = "x', 'a = [1, ', '}', 'a', '= 3', 'a { '.repeat(100)])
    expect(() => parseText(bad)).toThrow(GuestError);
});
