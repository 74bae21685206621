import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { vhdx } from '../../lib/image/vhdx/index.js';
import { expectRunsAgree, imageSuite, openImage, openWritableImage, sha256Of } from '../conformance/image.js';
import { itIf } from '../helpers/needs.js';
import { hasSharedData, noSharedData, sharedEntries, sharedFile } from '../helpers/shared-data.js';
import { temporaryFolder } from '../helpers/tmp.js';

for (const e of sharedEntries().filter((x) => x.kind === 'vhdx' && !x.bad && x.expected?.image?.info))
  itIf(hasSharedData(), noSharedData)(`reads ${e.name} as qemu-img does`, () => {
    const image = openImage(vhdx, sharedFile(e.name));
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

itIf(hasSharedData(), noSharedData)('replays a pending log in memory when reading, in the file when writing', () => {
  const name = 'vhdx/made-dirtylog.vhdx.zst';
  const after = sharedEntries().find((x) => x.name === name)!.expected.after_repair.raw_content.sha256;
  const path = join(temporaryFolder(), 'disk.vhdx');
  copyFileSync(sharedFile(name), path);
  const reader = openImage(vhdx, path);
  expect(reader.describe().dirty).toBe(true);
  expect(sha256Of(reader)).toBe(after);
  expect(reader.check!().corruptions).toBe(1);
  expectRunsAgree(reader);
  reader.close();
  const writer = openWritableImage(vhdx, path);
  expect(sha256Of(writer)).toBe(after);
  expect(writer.repair!('all').corruptionsFixed).toBe(1);
  writer.close();
  const again = openImage(vhdx, path);
  expect(again.describe().dirty).toBe(false);
  expect(sha256Of(again)).toBe(after);
  expect(again.check!().problems).toEqual([]);
  again.close();
});

imageSuite(vhdx, [
  { name: 'dynamic' },
  { name: 'dynamic, blocks of 1 MiB', settings: { block_size: '1M', log_size: '2M' } },
  { name: 'dynamic, blocks not present', settings: { block_size: '2M', block_state_zero: 'off' } },
  { name: 'fixed', settings: { subformat: 'fixed', block_size: '1M' } },
]);
