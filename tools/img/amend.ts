import { GuestError, openSpecWritable, WritableQcow2Image } from '../../lib/index.js';
import type { Tool } from '../shared/tool.js';
import { count, flag, ImgOptions, oneFile, Settings, value } from './common.js';
import { amendHelp } from './option-help.js';
import { PercentLine } from './progress.js';

export const amend: Tool = {
  name: 'virt-img amend',
  summary: 'change settings of an existing image',
  usage: ['virt-img amend [OPTIONS] -o SETTINGS FILE'],
  examples: [['for old readers', 'virt-img amend -f qcow2 -o compat=0.10 disk.qcow2']],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addQuiet().addProgress().addCache('-t, --cache <mode>', false);
    const settings = new Settings();
    let force = false;
    value(command, '-o, --options <settings>', 'NAME=VALUE,…; "help" lists them', (v) => settings.add(v));
    flag(command, '--force', 'allow to erase the last key', () => {
      force = true;
    });
    return (args) => {
      if (settings.help) return amendHelp(o.format ?? 'qcow2');
      if (!settings.given) throw new GuestError('usage', 'settings are expected (-o NAME=VALUE)');
      const spec = o.spec(oneFile(args));
      const values = settings.values;
      // A new backing file name may be what makes the image readable again.
      const image = openSpecWritable(spec, {
        ...o.open,
        noBacking: values['backing_file'] !== undefined && values['size'] === undefined,
      });
      try {
        if (!(image instanceof WritableQcow2Image))
          throw new GuestError('unsupported', `settings of ${image.format} images cannot be amended`);
        const line = new PercentLine(o.progress && !o.quiet);
        line.report(0, 1);
        const plain: Record<string, string> = {};
        const keys: Record<string, string> = {};
        for (const [k, v] of Object.entries(values))
          if (k.startsWith('encrypt.')) keys[k.slice(8)] = v;
          else plain[k] = v;
        if (Object.keys(plain).length > 0) image.amend(plain);
        if (Object.keys(keys).length > 0) amendKeys(image, keys, o, spec.keySecret, force);
        line.report(1, 1);
        line.end();
      } finally {
        image.close();
      }
      return 0;
    };
  },
};

function amendKeys(
  image: WritableQcow2Image,
  keys: Readonly<Record<string, string>>,
  o: ImgOptions,
  current: string | undefined,
  force: boolean,
): void {
  for (const k of Object.keys(keys))
    if (!['format', 'state', 'keyslot', 'new-secret', 'old-secret', 'iter-time'].includes(k))
      throw new GuestError('usage', `"encrypt.${k}" cannot be amended`);
  const { state } = keys;
  if (state !== 'active' && state !== 'inactive') throw new GuestError('usage', 'encrypt.state is expected: active or inactive');
  image.amendKeySlots({
    state,
    force,
    ...(keys['keyslot'] === undefined ? {} : { slot: count(keys['keyslot'], 'encrypt.keyslot', 0, 7) }),
    ...(keys['new-secret'] === undefined ? {} : { newSecret: o.secrets.get(keys['new-secret']) }),
    ...(keys['old-secret'] === undefined ? {} : { oldSecret: o.secrets.get(keys['old-secret']) }),
    ...(current === undefined ? {} : { current: o.secrets.get(current) }),
    ...(keys['iter-time'] === undefined ? {} : { iterMs: count(keys['iter-time'], 'encrypt.iter-time') }),
  });
}
