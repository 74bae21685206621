import { MemorySource } from '../../lib/block/memory.js';
import { crc32 } from '../../lib/core/checksum.js';
import { GuestError } from '../../lib/core/errors.js';
import { schemes } from '../../lib/partition/registry.js';
import { mutations, resealGpt } from './bytes.js';

/** A GPT disk and an MBR disk with logical partitions, made here from the specifications' own words. */
function seeds(): Uint8Array[] {
  const gpt = new Uint8Array(1 << 20);
  const v = new DataView(gpt.buffer);
  gpt.set([0x55, 0xaa], 510);
  gpt[446 + 4] = 0xee;
  v.setUint32(446 + 8, 1, true);
  v.setUint32(446 + 12, 2047, true);
  for (let i = 0; i < 4; i++) {
    const at = 1024 + i * 128;
    gpt.fill(0x11 + i, at, at + 32);
    v.setBigUint64(at + 32, BigInt(64 + i * 100), true);
    v.setBigUint64(at + 40, BigInt(64 + i * 100 + 99), true);
  }
  const header = (lba: number, other: number, entries: number) => {
    const at = lba * 512;
    gpt.set(Buffer.from('EFI PART'), at);
    v.setUint32(at + 8, 0x10000, true);
    v.setUint32(at + 12, 92, true);
    v.setBigUint64(at + 24, BigInt(lba), true);
    v.setBigUint64(at + 32, BigInt(other), true);
    v.setBigUint64(at + 72, BigInt(entries), true);
    v.setUint32(at + 80, 128, true);
    v.setUint32(at + 84, 128, true);
    gpt.copyWithin(entries * 512, 1024, 1024 + 128 * 128);
    v.setUint32(at + 88, crc32(gpt.subarray(entries * 512, entries * 512 + 128 * 128)), true);
    v.setUint32(at + 16, crc32(gpt.subarray(at, at + 92)), true);
  };
  header(1, 2047, 2);
  header(2047, 1, 2015);
  const mbr = new Uint8Array(1 << 20);
  const m = new DataView(mbr.buffer);
  const entry = (sector: number, slot: number, type: number, first: number, count: number) => {
    const at = sector * 512 + 446 + slot * 16;
    mbr[at + 4] = type;
    m.setUint32(at + 8, first, true);
    m.setUint32(at + 12, count, true);
    mbr.set([0x55, 0xaa], sector * 512 + 510);
  };
  entry(0, 0, 0x83, 63, 100);
  entry(0, 1, 0x05, 200, 1800);
  for (let i = 0; i < 6; i++) {
    entry(200 + i * 100, 0, 0x83, 1, 90);
    if (i < 5) entry(200 + i * 100, 1, 0x05, (i + 1) * 100, 100);
  }
  return [gpt, mbr];
}

/** Whatever the bytes say, a table's partitions lie on the disk, or a GuestError says why there is no table. */
export function fuzz(iterations: number, seed: number): void {
  for (const bytes of mutations(
    seeds(),
    iterations,
    seed,
    (b) => Buffer.from(b.buffer, 512, 8).toString() === 'EFI PART' && resealGpt(b),
  )) {
    const disk = new MemorySource(bytes);
    for (const s of schemes) {
      s.probe(disk);
      try {
        for (const p of s.read(disk).partitions)
          if (!(p.start >= 0 && p.size >= 0 && p.start + p.size <= disk.size))
            throw new Error(`partition ${p.number} of ${s.name} leaves the disk: ${p.start}+${p.size}`);
      } catch (e) {
        if (!(e instanceof GuestError)) throw e;
      }
    }
  }
}
