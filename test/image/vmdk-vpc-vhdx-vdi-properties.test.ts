import { vdi } from '../../lib/image/vdi/index.js';
import { vhdx } from '../../lib/image/vhdx/index.js';
import { vmdk } from '../../lib/image/vmdk/index.js';
import { vpc } from '../../lib/image/vpc/index.js';
import { imageProperties } from '../conformance/image-memory.js';

imageProperties(vmdk, 1 << 20);
imageProperties(vmdk, (1 << 20) + 512, { zeroed_grain: 'on' });
imageProperties(vmdk, 1 << 20, { subformat: 'streamOptimized' });
imageProperties(vpc, 4 << 20);
imageProperties(vhdx, 3 << 20, { block_size: '1M' });
imageProperties(vdi, 3 << 20);
