import { MemorySource } from '../../lib/block/memory.js';
import { readAt } from '../../lib/block/source.js';
import { GuestError } from '../../lib/core/errors.js';
import { lvm2 } from '../../lib/volume/lvm2/index.js';
import { lvmCrc } from '../../lib/volume/lvm2/label.js';
import { noKeys } from '../../lib/volume/manager.js';
import { mutations } from './bytes.js';

const TEXT = `vg {
id = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg"
seqno = 7
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 128
physical_volumes { pv0 { id = "111111-2222-3333-4444-5555-6666-777777" device = "/dev/sda" status = ["ALLOCATABLE"] dev_size = 4096 pe_start = 2048 pe_count = 14 } }
logical_volumes {
a { id = "hhhhhh-bbbb-cccc-dddd-eeee-ffff-gggggg" status = ["READ", "VISIBLE"] segment_count = 2
 segment1 { start_extent = 0 extent_count = 3 type = "striped" stripe_count = 1 stripes = ["pv0", 0] }
 segment2 { start_extent = 3 extent_count = 2 type = "striped" stripe_count = 2 stripe_size = 8 stripes = ["pv0", 4, "pv0", 9] } }
b { id = "iiiiii-bbbb-cccc-dddd-eeee-ffff-gggggg" status = ["READ", "VISIBLE"] segment_count = 1
 segment1 { start_extent = 0 extent_count = 1 type = "thin" thin_pool = "p" device_id = 1 } }
} }
`;

/** A physical volume with one metadata area at 4096 (1 MiB less its start), its text at 4608. */
function seedVolume(): Uint8Array {
  const b = new Uint8Array(2 << 20);
  const v = new DataView(b.buffer);
  const put = (at: number, s: string) => b.set(Buffer.from(s), at);
  put(512, 'LABELONE');
  v.setBigUint64(520, 1n, true);
  v.setUint32(532, 32, true);
  put(536, 'LVM2 001');
  put(544, '11111122223333444455556666777777');
  v.setBigUint64(576, BigInt(b.length), true);
  v.setBigUint64(584, 1048576n, true);
  v.setBigUint64(616, 4096n, true);
  v.setBigUint64(624, 1044480n, true);
  put(4100, ' LVM2 x[5A%r0N*>');
  v.setUint32(4116, 1, true);
  v.setBigUint64(4120, 4096n, true);
  v.setBigUint64(4128, 1044480n, true);
  v.setBigUint64(4136, 512n, true);
  v.setBigUint64(4144, BigInt(TEXT.length), true);
  put(4608, TEXT);
  reseal(b);
  return b;
}

/** All checksums right again, so that damage reaches the parsers behind them. */
function reseal(b: Uint8Array): void {
  const v = new DataView(b.buffer);
  const size = Number(v.getBigUint64(4144, true));
  if (size > 0 && size < 1_000_000) v.setUint32(4152, lvmCrc(b.subarray(4608, 4608 + size)), true);
  v.setUint32(4096, lvmCrc(b.subarray(4100, 4608)), true);
  v.setUint32(528, lvmCrc(b.subarray(532, 1024)), true);
}

/** Damaged labels and texts give groups with problems, or a GuestError. */
export function fuzz(iterations: number, seed: number): void {
  let opened = 0;
  for (const bytes of mutations([seedVolume()], iterations, seed, reseal)) {
    const start = performance.now();
    const member = lvm2.probe(new MemorySource(bytes));
    if (member !== undefined)
      for (const g of lvm2.assemble([member], noKeys))
        for (const volume of g.volumes)
          try {
            const s = volume.open();
            readAt(s, 0, Math.min(s.size, 4096));
            opened++;
          } catch (e) {
            if (!(e instanceof GuestError)) throw e;
          }
    if (performance.now() - start > 4000) throw new Error(`a mutation took ${performance.now() - start} ms`);
  }
  // A seed that never opens would test nothing.
  if (iterations >= 100 && opened === 0) throw new Error('no mutation left a volume that opens');
}
