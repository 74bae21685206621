// virt-img against qemu-img on the same images: conversions, compare, map, check.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { debianGuest } from '../../fixtures/debian-guest.mjs';
import { head, once, row, sideBySide } from './measure.mjs';

const BIN = resolve(import.meta.dirname, '../../dist/bin/virt-img.js');

export async function bench() {
  const guest = debianGuest('large', (m) => console.log(`  ${m}`));
  const dir = mkdtempSync(join(process.env.GUESTWRIGHT_BENCH_DIR ?? tmpdir(), 'guestwright-bench-'));
  const path = (name) => join(dir, name);
  const qemu = (...args) => {
    const r = spawnSync('qemu-img', args, { encoding: 'utf8' });
    if (r.status !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${r.stderr}`);
  };
  try {
    qemu('convert', '-O', 'raw', guest, path('disk.raw'));
    qemu('convert', '-O', 'qcow2', path('disk.raw'), path('disk.qcow2'));
    qemu('convert', '-O', 'vmdk', path('disk.raw'), path('disk.vmdk'));
    qemu('convert', '-c', '-O', 'qcow2', path('disk.raw'), path('packed.qcow2'));
    const pair = (what, args, wanted, output, options) => {
      const each = (command, first) => () => {
        if (output !== undefined) rmSync(path(output), { force: true });
        return once(command, [...first, ...args]);
      };
      row(what, sideBySide(each(process.execPath, [BIN]), each('qemu-img', []), options ?? { runs: 3 }), wanted);
      if (output !== undefined) rmSync(path(output), { force: true });
    };
    const convert = (what, from, fromFormat, to, wanted, more = [], options = undefined) =>
      pair(what, ['convert', '-f', fromFormat, '-O', to, ...more, path(from), path(`out.${to}`)], wanted, `out.${to}`, options);
    head(`virt-img against qemu-img, on ${guest}`);
    convert('convert raw -> qcow2', 'disk.raw', 'raw', 'qcow2', 1);
    convert('convert qcow2 -> raw', 'disk.qcow2', 'qcow2', 'raw', 1);
    convert('convert qcow2 -> qcow2', 'disk.qcow2', 'qcow2', 'qcow2', 1);
    convert('convert vmdk -> qcow2', 'disk.vmdk', 'vmdk', 'qcow2', 1);
    convert('convert zlib qcow2 -> raw', 'packed.qcow2', 'qcow2', 'raw', 1);
    convert('convert -> qcow2 -c (zlib)', 'disk.raw', 'raw', 'qcow2', 1.3, ['-c'], { runs: 1 });
    convert('convert -> qcow2 -c (zstd)', 'disk.raw', 'raw', 'qcow2', 1.3, ['-c', '-o', 'compression_type=zstd'], { runs: 1 });
    pair('compare raw qcow2', ['compare', '-f', 'raw', '-F', 'qcow2', path('disk.raw'), path('disk.qcow2')], 1);
    pair('map', ['map', '--output=json', path('disk.qcow2')], 1);
    pair('check', ['check', path('disk.qcow2')], 1);
    pair('info', ['info', path('disk.qcow2')]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
