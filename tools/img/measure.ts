import { formatByName, GuestError, measure as measureImage, openSnapshotOf, openSpec } from '../../lib/index.js';
import { json, out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { bytes, ImgOptions, Settings, value } from './common.js';
import { createHelp } from './option-help.js';

export const measure: Tool = {
  name: 'virt-img measure',
  summary: 'how much space a conversion or a new image needs',
  usage: ['virt-img measure [OPTIONS] FILE', 'virt-img measure [OPTIONS] --size SIZE'],
  examples: [['size of the logical volume to make', 'virt-img measure -O qcow2 disk.raw']],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare().addOutput();
    const settings = new Settings();
    let format = 'raw';
    let size: number | undefined;
    let snapshot: string | undefined;
    value(command, '-O, --target-format <format>', 'format of the new image (raw)', (v) => {
      format = v;
    });
    value(command, '-o, --target-options <settings>', 'settings of the format, NAME=VALUE,…', (v) => settings.add(v));
    value(command, '-s, --size <size>', 'an empty disk of this size instead of a file', (v) => {
      size = bytes(v, '--size');
    });
    value(command, '-l, --snapshot <snapshot>', 'internal snapshot to read', (v) => {
      snapshot = v;
    });
    return (args) => {
      if (settings.help) return createHelp(format);
      if (args.length > 1) throw new GuestError('usage', 'at most one file name is expected');
      if ((args.length === 0) === (size === undefined))
        throw new GuestError('usage', 'either a file name or --size SIZE is expected');
      if (size !== undefined && (o.format !== undefined || snapshot !== undefined))
        throw new GuestError('usage', '--size cannot be used together with -f or -l');
      const { name } = formatByName(format);
      const image = args.length === 0 ? undefined : openSpec(o.spec(args[0]!), o.open);
      try {
        const values = settings.values;
        const r =
          image === undefined
            ? measureImage(name, values, { size: size! })
            : snapshot === undefined
              ? measureImage(name, values, { image, size: image.size })
              : measureSnapshot(name, values, openSnapshotOf(image, snapshot));
        if (o.json)
          out.line(
            json({
              required: r.required,
              'fully-allocated': r.fullyAllocated,
              ...(r.bitmaps === undefined ? {} : { bitmaps: r.bitmaps }),
            }),
          );
        else {
          out.line(`required size: ${r.required}`);
          out.line(`fully allocated size: ${r.fullyAllocated}`);
          if (r.bitmaps !== undefined) out.line(`bitmaps size: ${r.bitmaps}`);
        }
      } finally {
        image?.close();
      }
      return 0;
    };
  },
};

/** A snapshot says where its bytes are, as an image does. */
function measureSnapshot(name: string, values: Readonly<Record<string, string>>, disk: ReturnType<typeof openSnapshotOf>) {
  return measureImage(name, values, { disk, size: disk.size });
}
