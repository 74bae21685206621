/** Bills of materials of a guest's packages: what `guestwright sbom` writes. */
export { billSystem } from './collect.js';
export { cycloneDx } from './cyclonedx.js';
export type { Bill, BillOptions, BillPackage, BillSystem } from './model.js';
export { spdx } from './spdx.js';
