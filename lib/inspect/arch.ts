import { GuestError } from '../core/errors.js';
import type { Tree } from '../filesystem/walk.js';

/** ELF e_machine (System V ABI, chapter 4, and processor supplements) to the names of the guestfs API. */
function machine(b: Uint8Array): string | undefined {
  if (b.length < 20 || b[0] !== 0x7f || b[1] !== 0x45 || b[2] !== 0x4c || b[3] !== 0x46) return undefined;
  const is64 = b[4] === 2;
  const le = b[5] === 1;
  const m = le ? b[18]! | (b[19]! << 8) : (b[18]! << 8) | b[19]!;
  switch (m) {
    case 3:
    case 6:
      return 'i386';
    case 62:
      return 'x86_64';
    case 20:
      return 'ppc';
    case 21:
      return le ? 'ppc64le' : 'ppc64';
    case 40:
      return 'arm';
    case 183:
      return 'aarch64';
    case 2:
    case 18:
      return 'sparc';
    case 43:
      return 'sparc64';
    case 50:
      return 'ia64';
    case 243:
      return is64 ? 'riscv64' : 'riscv32';
    case 22:
      return is64 ? 's390x' : 's390';
    case 258:
      return 'loongarch64';
    case 8:
      return is64 ? 'mips64' : 'mips';
  }
  return undefined;
}

const PROGRAMS = [
  '/bin/bash',
  '/bin/ls',
  '/bin/echo',
  '/bin/rm',
  '/bin/sh',
  '/usr/bin/bash',
  '/usr/bin/ls',
  '/sbin/init',
  '/usr/lib/systemd/systemd',
  '/bin/busybox',
];

/** The architecture that a guest's own programs are built for. */
export function archOf(tree: Tree): string | undefined {
  const head = new Uint8Array(64);
  for (const path of PROGRAMS) {
    try {
      const place = tree.find(path);
      if (place === undefined || place.node.kind !== 'file') continue;
      const arch = machine(head.subarray(0, place.node.read(head, 0)));
      if (arch !== undefined) return arch;
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
    }
  }
  return undefined;
}
