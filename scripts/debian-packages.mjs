// The Debian packages that the project's own commands need, each with what for.
/** To build the native addon (without them everything that reads still works). */
export const BUILD = ['build-essential', 'python3', 'pkg-config', 'libzstd-dev', 'libfuse3-dev', 'fuse3'];
/** To make a real Debian guest (fixtures/debian-guest.mjs). */
export const GUEST = [
  'mmdebstrap',
  'e2fsprogs',
  'xfsprogs',
  'dosfstools',
  'mtools',
  'gdisk',
  'fdisk',
  'lvm2',
  'qemu-utils',
  'util-linux',
  'mount',
];
/** Independent implementations that the tests compare with. */
export const TEST = [
  ...GUEST,
  'zstd',
  'xz-utils',
  'bzip2',
  'gzip',
  'tar',
  'rsync',
  'attr',
  'acl',
  'cryptsetup-bin',
  'btrfs-progs',
  'parted',
  'sqlite3',
  'rpm',
  'libdb5.3',
  'db5.3-util',
  'systemd',
  'systemd-journal-remote',
  'libnbd-bin',
  'openssl',
  'lz4',
];
