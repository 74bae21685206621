import { commit as commitImage } from '../../lib/index.js';
import { untilInterrupted } from '../shared/interrupt.js';
import type { Tool } from '../shared/tool.js';
import { bytes, flag, ImgOptions, oneFile, value } from './common.js';
import { PercentLine } from './progress.js';

export const commit: Tool = {
  name: 'virt-img commit',
  summary: 'write an overlay into the image below it',
  usage: ['virt-img commit [OPTIONS] FILE'],
  examples: [['keep the changes', 'virt-img commit overlay.qcow2']],
  notes: ['The overlay is then empty, unless -d or -b is given.'],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addQuiet().addProgress().addCache('-t, --cache <mode>', false);
    let base: string | undefined;
    let drop = false;
    let rate: number | undefined;
    value(command, '-b, --base <file>', 'the image of the chain to write into (implies -d)', (v) => {
      base = v;
      drop = true;
    });
    flag(command, '-d, --drop', 'leave the overlay as it is', () => {
      drop = true;
    });
    value(command, '-r, --rate <bytes>', 'bytes a second', (v) => {
      rate = bytes(v, '-r');
    });
    return async (args) => {
      const line = new PercentLine(o.progress && !o.quiet);
      line.report(0, 1);
      await untilInterrupted(commitImage({ image: o.spec(oneFile(args)), secrets: o.secrets, base, drop, rate }), (s) =>
        line.report(s.done, s.total),
      );
      line.report(1, 1);
      line.end();
      o.say('Image committed.');
      return 0;
    };
  },
};
