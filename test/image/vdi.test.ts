import { expect } from 'vitest';
import { vdi } from '../../lib/image/vdi/index.js';
import { expectRunsAgree, imageSuite, openImage, sha256Of } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';

for (const e of sharedEntries().filter((x) => x.kind === 'vdi' && !x.bad && x.expected?.image?.info))
  itIf(hasSharedData(), noSharedData)(`reads ${e.name} as qemu-img does`, () => {
    const image = openImage(vdi, sharedFile(e.name));
    try {
      const { info, raw_content: content } = e.expected.image;
      expect(image.describe().virtualSize).toBe(info['virtual-size']);
      expect(image.describe().clusterSize).toBe(info['cluster-size']);
      expect(sha256Of(image)).toBe(content.sha256);
      expectRunsAgree(image);
      expect(image.check!().problems).toEqual([]);
    } finally {
      image.close();
    }
  });

imageSuite(vdi, [{ name: 'dynamic' }, { name: 'static', settings: { static: 'on' } }]);
