import { GuestError, type MapEntry, mapImage, openSpec } from '../../lib/index.js';
import { out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { bytes, ImgOptions, oneFile, value } from './common.js';

export const map: Tool = {
  name: 'virt-img map',
  summary: 'list what is allocated, and where',
  usage: ['virt-img map [OPTIONS] FILE'],
  examples: [['for a program', 'virt-img map --output=json disk.qcow2']],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare().addOutput();
    let start = 0;
    let length = Number.POSITIVE_INFINITY;
    value(command, '-s, --start-offset <offset>', 'first byte', (v) => {
      start = bytes(v, '--start-offset');
    });
    value(command, '-l, --max-length <bytes>', 'bytes to look at', (v) => {
      length = bytes(v, '--max-length');
    });
    return (args) => {
      const name = oneFile(args);
      const image = openSpec(o.spec(name), o.open);
      try {
        const own = image.file.label;
        if (o.json) printJson(mapImage(image, start, length));
        else printText(mapImage(image, start, length), own);
      } finally {
        image.close();
      }
      return 0;
    };
  },
};

function printJson(entries: Iterable<MapEntry>): void {
  let first = true;
  let text = '';
  for (const e of entries) {
    const place = e.offset === undefined ? '' : `, "offset": ${e.offset}`;
    text += `${first ? '[' : ',\n'}{ "start": ${e.start}, "length": ${e.length}, "depth": ${e.depth}, "present": ${e.present}, "zero": ${e.zero}, "data": ${e.data}, "compressed": ${e.compressed}${place}}`;
    if (text.length > 32768) {
      out.write(text);
      text = '';
    }
    first = false;
  }
  out.line(`${text}${first ? '[]' : ']'}`);
}

function printText(entries: Iterable<MapEntry>, own: string): void {
  const hex = (n: number) => (n === 0 ? '0' : `0x${n.toString(16)}`).padEnd(16);
  out.line(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File`);
  for (const e of entries) {
    if (!e.data || e.zero) continue;
    if (e.offset === undefined)
      throw new GuestError('unsupported', 'the file has external, encrypted or compressed clusters (--output=json shows them)');
    out.line(`${hex(e.start)}${hex(e.length)}${hex(e.offset)}${e.filename ?? own}`);
  }
}
