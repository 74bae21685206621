import { GuestError, rebase as rebaseImage } from '../../lib/index.js';
import { untilInterrupted } from '../shared/interrupt.js';
import type { Tool } from '../shared/tool.js';
import { flag, ImgOptions, oneFile, value } from './common.js';
import { PercentLine } from './progress.js';

export const rebase: Tool = {
  name: 'virt-img rebase',
  summary: 'change the backing file',
  usage: ['virt-img rebase [OPTIONS] -b BACKING -F FORMAT FILE'],
  examples: [
    ['the base was moved', 'virt-img rebase -u -b /new/base.qcow2 -F qcow2 overlay.qcow2'],
    ['stand alone', 'virt-img rebase -b "" overlay.qcow2'],
  ],
  notes: ['Unless -u is given the contents stay the same: what the new backing file lacks is copied into the image.'],
  setup(command) {
    const o = new ImgOptions(command)
      .addFormat()
      .addImageOpts()
      .addForceShare()
      .addQuiet()
      .addProgress()
      .addCache('-t, --cache <mode>', false)
      .addCache('-T, --backing-cache <mode>', false);
    let backing: string | undefined;
    let format: string | undefined;
    let unsafe = false;
    let compress = false;
    value(command, '-b, --backing <file>', 'the new backing file; empty for none', (v) => {
      backing = v;
    });
    value(command, '-F, --backing-format <format>', 'its format', (v) => {
      format = v;
    });
    flag(command, '-u, --backing-unsafe', 'both backing files have the same contents: only the name changes', () => {
      unsafe = true;
    });
    flag(command, '-c, --compress', 'compress what is copied', () => {
      compress = true;
    });
    return async (args) => {
      const name = oneFile(args);
      if (backing === undefined) throw new GuestError('usage', 'the new backing file is expected (-b FILE, or -b "" for none)');
      const line = new PercentLine(o.progress && !o.quiet);
      line.report(0, 1);
      await untilInterrupted(
        rebaseImage({ image: o.spec(name), secrets: o.secrets, backing, format, unsafe, compress, forceShare: o.forceShare }),
        (s) => line.report(s.done, s.total),
      );
      line.report(1, 1);
      line.end();
      return 0;
    };
  },
};
