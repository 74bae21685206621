import { type CheckResult, GuestError, type Image, openSpec, openSpecWritable } from '../../lib/index.js';
import { json, out, warn } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { ImgOptions, oneFile, value } from './common.js';

export const check: Tool = {
  name: 'virt-img check',
  summary: 'verify the structure of an image, and repair it',
  usage: ['virt-img check [OPTIONS] FILE'],
  examples: [
    ['is it sound?', 'virt-img check disk.qcow2'],
    ['free what is allocated but not used', 'virt-img check -r leaks disk.qcow2'],
  ],
  notes: [
    'Exit status: 0 no problems, 1 the check failed, 2 the image is damaged, 3 clusters are leaked only, 63 the format has no check.',
  ],
  setup(command) {
    const o = new ImgOptions(command)
      .addFormat()
      .addImageOpts()
      .addForceShare()
      .addQuiet()
      .addOutput()
      .addCache('-T, --cache <mode>', false);
    let repair: 'leaks' | 'all' | undefined;
    value(command, '-r, --repair <leaks|all>', 'repair leaked clusters, or all that can be repaired', (v) => {
      if (v !== 'leaks' && v !== 'all') throw new GuestError('usage', `-r expects the repair mode "leaks" or "all", not "${v}"`);
      repair = v;
    });
    return (args) => {
      const filename = oneFile(args);
      const spec = o.spec(filename);
      const options = { ...o.open, forCheck: true };
      const image: Image = repair === undefined ? openSpec(spec, options) : openSpecWritable(spec, options);
      try {
        if (image.check === undefined) {
          warn(`virt-img check: ${filename}: ${image.format} images have no structure to check`);
          return 63;
        }
        const before = image.check();
        const wanted = repair !== undefined && (before.leaks > 0 || before.corruptions > 0 || image.describe().dirty === true);
        if (wanted && image.repair === undefined)
          throw new GuestError('unsupported', `${image.format} images cannot be repaired`);
        const found = o.json ? [] : before.problems;
        if (!o.quiet) for (const p of found) warn(`${p.kind === 'leak' ? 'Leaked' : 'ERROR'}: ${p.message}`);
        const result = wanted ? image.repair!(repair!) : before;
        if (o.json) out.line(json(toJson(filename, image.format, result)));
        else if (!o.quiet) for (const line of toText(result, image.format)) out.line(line);
        return result.corruptions > 0 ? 2 : result.leaks > 0 ? 3 : result.checkErrors > 0 ? 1 : 0;
      } finally {
        image.close();
      }
    };
  },
};

/** qemu-img tells of clusters for the formats whose clusters it counts. */
const counts = (format: string) => format === 'qcow2';

function toJson(filename: string, format: string, r: CheckResult): Record<string, unknown> {
  const some = (name: string, n: number | undefined) => (n ? { [name]: n } : {});
  return {
    ...(counts(format) ? some('image-end-offset', r.imageEnd) : {}),
    ...some('corruptions-fixed', r.corruptionsFixed),
    ...some('leaks-fixed', r.leaksFixed),
    ...some('corruptions', r.corruptions),
    ...some('leaks', r.leaks),
    ...(counts(format)
      ? {
          ...some('total-clusters', r.totalClusters),
          ...some('allocated-clusters', r.allocatedClusters),
          ...some('fragmented-clusters', r.fragmentedClusters),
          ...some('compressed-clusters', r.compressedClusters),
        }
      : {}),
    'check-errors': r.checkErrors,
    filename,
    format,
  };
}

function toText(r: CheckResult, format: string): string[] {
  const lines: string[] = [];
  if (r.corruptionsFixed > 0 || r.leaksFixed > 0) {
    lines.push('The following inconsistencies were found and repaired:', '');
    lines.push(`    ${r.leaksFixed} leaked clusters`, `    ${r.corruptionsFixed} corruptions`, '');
    lines.push('Double checking the fixed image now...');
  }
  if (r.corruptions === 0 && r.leaks === 0 && r.checkErrors === 0) lines.push('No errors were found on the image.');
  else {
    if (r.corruptions > 0)
      lines.push(
        '',
        `${r.corruptions} errors were found on the image.`,
        'Data may be corrupted, or further writes to the image may corrupt it.',
      );
    if (r.leaks > 0)
      lines.push(
        '',
        `${r.leaks} leaked clusters were found on the image.`,
        'This means waste of disk space, but no harm to data.',
      );
    if (r.checkErrors > 0) lines.push('', `${r.checkErrors} internal errors have occurred during the check.`);
  }
  if (!counts(format)) return lines;
  const { totalClusters: total = 0, allocatedClusters: allocated = 0 } = r;
  const percent = (n: number, of: number) => ((n * 100) / of).toFixed(2);
  if (total > 0 && allocated > 0)
    lines.push(
      `${allocated}/${total} = ${percent(allocated, total)}% allocated, ${percent(r.fragmentedClusters ?? 0, allocated)}% fragmented, ${percent(r.compressedClusters ?? 0, allocated)}% compressed clusters`,
    );
  if (r.imageEnd) lines.push(`Image end offset: ${r.imageEnd}`);
  return lines;
}
