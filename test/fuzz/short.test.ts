import { it } from 'vitest';
import * as lvm2 from './lvm2.fuzz.js';
import * as partition from './partition.fuzz.js';

it('partition tables survive 2000 mutations', () => partition.fuzz(2000, 1));
it('LVM2 metadata survives 2000 mutations', () => lvm2.fuzz(2000, 1));
