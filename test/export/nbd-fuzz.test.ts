import { it } from 'vitest';
import { fuzz } from '../fuzz/nbd.fuzz.js';

it('byte streams of hostile clients and servers: 3000 of them', () => fuzz(3000, 1));
