// npm run bench [-- reading|images]: ratios against libguestfs and qemu-img, measured in one run on this machine.

import { BUILD, GUEST } from './debian-packages.mjs';
import { build, debianPackages, npmPackages } from './setup.mjs';

const which = process.argv[2];
debianPackages([...BUILD, ...GUEST]);
npmPackages();
build();
if (which === undefined || which === 'reading') await (await import('../test/bench/reading.mjs')).bench();
if (which === undefined || which === 'images') await (await import('../test/bench/images.mjs')).bench();
