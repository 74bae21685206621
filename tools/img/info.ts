import { type ChainInfo, imageChain } from '../../lib/index.js';
import { json, out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { flag, ImgOptions, oneFile } from './common.js';
import { hasSpecific, sizeText, snapshotJson, snapshotTable, specificLines } from './text.js';

export const info: Tool = {
  name: 'virt-img info',
  summary: 'describe an image',
  usage: ['virt-img info [OPTIONS] FILE'],
  examples: [
    ['what is this?', 'virt-img info disk.qcow2'],
    ['with all that is below it, for a program', 'virt-img info --backing-chain --output=json overlay.qcow2'],
  ],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare().addOutput();
    let chain = false;
    flag(command, '--backing-chain', 'the whole chain of backing files', () => {
      chain = true;
    });
    return (args) => {
      const list = imageChain(o.spec(oneFile(args)), { ...o.open, chain });
      if (o.json) out.line(json(chain ? list.map(toJson) : toJson(list[0]!)));
      else
        for (const [i, one] of list.entries()) {
          if (i > 0) out.line();
          for (const line of toText(one)) out.line(line);
        }
      return 0;
    };
  },
};

function toJson(c: ChainInfo): Record<string, unknown> {
  const { info: i } = c;
  return {
    ...(i.snapshots.length === 0 ? {} : { snapshots: i.snapshots.map(snapshotJson) }),
    ...(i.backingFormat === undefined || i.backingName === undefined ? {} : { 'backing-filename-format': i.backingFormat }),
    'virtual-size': i.virtualSize,
    filename: c.filename,
    ...(i.clusterSize === undefined ? {} : { 'cluster-size': i.clusterSize }),
    format: i.format,
    ...(c.actualSize === undefined ? {} : { 'actual-size': c.actualSize }),
    ...(i.encrypted ? { encrypted: true } : {}),
    ...(i.compressed && i.format !== 'vmdk' ? { compressed: true } : {}),
    ...(hasSpecific(i) ? { 'format-specific': { type: i.format, data: i.specific } } : {}),
    ...(c.fullBackingName === undefined ? {} : { 'full-backing-filename': c.fullBackingName }),
    ...(i.backingName === undefined ? {} : { 'backing-filename': i.backingName }),
    'dirty-flag': i.dirty ?? false,
  };
}

function toText(c: ChainInfo): string[] {
  const { info: i } = c;
  const lines = [
    `image: ${c.filename}`,
    `file format: ${i.format}`,
    `virtual size: ${sizeText(i.virtualSize)} (${i.virtualSize} bytes)`,
    `disk size: ${c.actualSize === undefined ? 'unavailable' : sizeText(c.actualSize)}`,
  ];
  if (i.encrypted) lines.push('encrypted: yes');
  if (i.clusterSize !== undefined) lines.push(`cluster_size: ${i.clusterSize}`);
  if (i.dirty) lines.push('cleanly shut down: no');
  if (i.backingName !== undefined) {
    const full = c.fullBackingName;
    lines.push(`backing file: ${i.backingName}${full === undefined || full === i.backingName ? '' : ` (actual path: ${full})`}`);
    if (i.backingFormat !== undefined) lines.push(`backing file format: ${i.backingFormat}`);
  }
  if (i.snapshots.length > 0) lines.push(...snapshotTable(i.snapshots));
  if (hasSpecific(i)) lines.push('Format specific information:', ...specificLines(i.specific));
  return lines;
}
