import { expect } from 'vitest';
import { vpc } from '../../lib/image/vpc/index.js';
import { expectRunsAgree, imageSuite, openImage, sha256Of } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';

for (const e of sharedEntries().filter((x) => x.kind === 'vhd' && !x.bad && x.expected?.image?.info?.format === 'vpc'))
  itIf(hasSharedData(), noSharedData)(`reads ${e.name} as qemu-img does`, () => {
    // Without its parent, as qemu-img reads a differencing disk.
    const image = openImage(vpc, sharedFile(e.name), { noBacking: true });
    try {
      const { info, raw_content: content } = e.expected.image;
      expect(image.describe().virtualSize).toBe(info['virtual-size']);
      expect(image.describe().clusterSize).toBe(info['cluster-size']);
      if (content !== undefined) {
        expect(sha256Of(image)).toBe(content.sha256);
        expectRunsAgree(image);
      }
      expect(image.check!().problems).toEqual([]);
    } finally {
      image.close();
    }
  });

imageSuite(vpc, [
  { name: 'dynamic', noCheck: true },
  { name: 'dynamic of the size asked for', settings: { force_size: 'on' }, noCheck: true },
  { name: 'fixed', settings: { subformat: 'fixed' }, noCheck: true },
  { name: 'fixed of the size asked for', settings: { subformat: 'fixed', force_size: 'on' }, noCheck: true },
]);
