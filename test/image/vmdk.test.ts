import { expect } from 'vitest';
import { vmdk } from '../../lib/image/vmdk/index.js';
import { expectRunsAgree, imageSuite, openImage, sha256Of } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';

for (const e of sharedEntries().filter((x) => x.kind === 'vmdk' && !x.bad && x.expected?.image?.info))
  itIf(hasSharedData(), noSharedData)(`reads ${e.name} as qemu-img does`, () => {
    const image = openImage(vmdk, sharedFile(e.name));
    try {
      const { info, raw_content: content } = e.expected.image;
      const ours = image.describe();
      expect(ours.virtualSize).toBe(info['virtual-size']);
      expect(ours.clusterSize).toBe(info['cluster-size']);
      const specific = info['format-specific'].data;
      expect(ours.specific).toMatchObject({
        cid: specific.cid,
        'parent-cid': specific['parent-cid'],
        'create-type': specific['create-type'],
      });
      if (content !== undefined) {
        expect(sha256Of(image)).toBe(content.sha256);
        expectRunsAgree(image);
      }
    } finally {
      image.close();
    }
  });

imageSuite(vmdk, [
  { name: 'monolithicSparse' },
  { name: 'zeroed grains', settings: { zeroed_grain: 'on' } },
  { name: 'monolithicFlat', settings: { subformat: 'monolithicFlat' } },
  { name: 'twoGbMaxExtentSparse', settings: { subformat: 'twoGbMaxExtentSparse' } },
  { name: 'twoGbMaxExtentFlat', settings: { subformat: 'twoGbMaxExtentFlat' } },
  { name: 'streamOptimized', settings: { subformat: 'streamOptimized' }, appendOnly: true },
]);
