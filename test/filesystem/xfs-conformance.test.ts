import { xfs } from '../../lib/filesystem/xfs/index.js';
import { filesystemSuite, mounted, UNIX, whyNoMount } from '../conformance/filesystem.js';
import { hasTool, run } from '../helpers/needs.js';

const missing = hasTool('mkfs.xfs') ? whyNoMount() || undefined : 'mkfs.xfs not installed';

/** The kernel writes everything: `cp -a` onto the mounted image. */
for (const [name, options, size] of [
  ['xfs as mkfs makes it', [], '320M'],
  ['xfs with 1024-byte blocks, directory blocks of 8192 bytes', ['-b', 'size=1024', '-n', 'size=8192', '-i', 'size=512'], '320M'],
] as const)
  filesystemSuite({
    name,
    driver: xfs,
    capabilities: UNIX,
    missing,
    makeImage(folder, image) {
      run('truncate', ['-s', size, image]);
      run('mkfs.xfs', ['-q', ...options, image]);
      mounted(image, 'rw', (point) => run('cp', ['-a', `${folder}/.`, point]));
    },
    mountOptions: 'ro,norecovery',
  });
