import { spawnSync } from 'node:child_process';
import { ext } from '../../lib/filesystem/ext/index.js';
import { filesystemSuite, mounted, UNIX, whyNoMount } from '../conformance/filesystem.js';
import { hasTool, run } from '../helpers/needs.js';

const noTools = hasTool('mke2fs') ? undefined : 'mke2fs not installed';
const noMount = noTools ?? (whyNoMount() || undefined);

/** The kernel writes everything, times included: `cp -a` onto the mounted image. */
const byMount = (options: readonly string[]) => (folder: string, image: string) => {
  run('truncate', ['-s', '96M', image]);
  run('mke2fs', ['-q', '-F', ...options, image]);
  mounted(image, 'rw', (point) => run('cp', ['-a', `${folder}/.`, point]));
};

for (const [name, options] of [
  ['ext4 with 4096-byte blocks', ['-t', 'ext4', '-b', '4096', '-N', '30000', '-I', '256']],
  [
    'ext4 with inline data, large inodes and 1024-byte blocks',
    ['-t', 'ext4', '-b', '1024', '-N', '30000', '-I', '512', '-O', 'inline_data,metadata_csum_seed'],
  ],
] as const)
  filesystemSuite({
    name,
    driver: ext,
    capabilities: UNIX,
    missing: noMount,
    makeImage: byMount(options),
    mountOptions: 'ro,noload',
  });

/** Inodes of 128 bytes have 32-bit times. */
filesystemSuite({
  name: 'ext2 with 128-byte inodes',
  driver: ext,
  capabilities: { ...UNIX, years: [1960, 2037] },
  missing: noMount,
  makeImage: byMount(['-t', 'ext2', '-b', '1024', '-N', '30000', '-I', '128']),
  mountOptions: 'ro',
});

/** Without the kernel: mke2fs fills the image itself, which keeps times to the second and 32 bits only. */
filesystemSuite({
  name: 'ext4 made by mke2fs -d, bigalloc',
  driver: ext,
  capabilities: { ...UNIX, years: [1990, 2037], bigDirectory: 2000 },
  missing: noTools,
  makeImage(folder, image) {
    spawnSync('truncate', ['-s', '96M', image]);
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', 'bigalloc,ea_inode', '-C', '16384', '-N', '8192', '-d', folder, image]);
  },
  mountOptions: 'ro,noload',
});
