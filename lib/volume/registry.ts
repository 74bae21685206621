import { luks } from './luks/index.js';
import { lvm2 } from './lvm2/index.js';
import type { VolumeManager } from './manager.js';

/** Everything that joins or unlocks block devices. */
export const managers: readonly VolumeManager[] = [luks, lvm2];
