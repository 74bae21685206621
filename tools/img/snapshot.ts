import { GuestError, openSpec, openSpecWritable, Qcow2Image, WritableQcow2Image } from '../../lib/index.js';
import { json, out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { flag, ImgOptions, oneFile, value } from './common.js';
import { snapshotJson, snapshotTable } from './text.js';

type Action = { readonly kind: 'list' } | { readonly kind: 'create' | 'apply' | 'delete'; readonly name: string };

export const snapshot: Tool = {
  name: 'virt-img snapshot',
  summary: 'list, make, apply and delete internal snapshots',
  usage: ['virt-img snapshot [OPTIONS] [-l | -c NAME | -a NAME | -d NAME] FILE'],
  examples: [
    ['before an experiment', 'virt-img snapshot -c before disk.qcow2'],
    ['back to it', 'virt-img snapshot -a before disk.qcow2'],
  ],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare().addQuiet().addOutput();
    let action: Action | undefined;
    const choose = (a: Action) => {
      if (action !== undefined) throw new GuestError('usage', 'cannot mix -l, -a, -c and -d');
      action = a;
    };
    flag(command, '-l, --list', 'list the snapshots (the default)', () => choose({ kind: 'list' }));
    value(command, '-c, --create <name>', 'make a snapshot', (name) => choose({ kind: 'create', name }));
    value(command, '-a, --apply <name>', 'make the disk what it was then', (name) => choose({ kind: 'apply', name }));
    value(command, '-d, --delete <name>', 'delete a snapshot', (name) => choose({ kind: 'delete', name }));
    return (args) => {
      const spec = o.spec(oneFile(args));
      const { kind } = action ?? { kind: 'list' };
      if (kind === 'list') {
        const image = openSpec(spec, { ...o.open, noBacking: true });
        const { snapshots } = image.describe();
        image.close();
        if (o.json) out.line(json(snapshots.map(snapshotJson)));
        else if (snapshots.length > 0 && !o.quiet) for (const line of snapshotTable(snapshots)) out.line(line);
        return 0;
      }
      const { name } = action as { name: string };
      if (o.forceShare) throw new GuestError('usage', '-U cannot be used for changing an image');
      const image = openSpecWritable(spec, { ...o.open, noBacking: kind !== 'apply' });
      try {
        if (!(image instanceof Qcow2Image) || !(image instanceof WritableQcow2Image))
          throw new GuestError('unsupported', `${image.format} images have no internal snapshots`);
        if (kind === 'create') image.createSnapshot(name);
        else if (kind === 'apply') image.applySnapshot(name);
        else image.deleteSnapshot(name);
      } finally {
        image.close();
      }
      return 0;
    };
  },
};
