import { convert, GuestError } from '../../lib/index.js';
import { untilInterrupted } from '../shared/interrupt.js';
import type { Tool } from '../shared/tool.js';
import { bytes, ImgOptions, value } from './common.js';

export const dd: Tool = {
  name: 'virt-img dd',
  summary: 'copy a part of an image into a new one',
  usage: ['virt-img dd [OPTIONS] if=FILE of=FILE [bs=BYTES] [count=N] [skip=N]'],
  examples: [['the first MiB, as a raw file', 'virt-img dd -O raw bs=1M count=1 if=disk.qcow2 of=start.raw']],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare();
    let format = 'raw';
    value(command, '-O, --output-format <format>', 'format of the new image (raw)', (v) => {
      format = v;
    });
    return async (args) => {
      const given = new Map<string, string>();
      for (const a of args) {
        const m = /^(if|of|bs|count|skip)=(.*)$/s.exec(a);
        if (m === null) throw new GuestError('usage', `unrecognized operand "${a}" (if=, of=, bs=, count=, skip=)`);
        given.set(m[1]!, m[2]!);
      }
      const from = given.get('if');
      const to = given.get('of');
      if (from === undefined || to === undefined) throw new GuestError('usage', 'both if=FILE and of=FILE are expected');
      const block = bytes(given.get('bs') ?? '512', 'bs');
      if (block === 0 || block > 2 ** 31 - 1) throw new GuestError('usage', `bs: ${block} is not a size from 1 to 2 GiB`);
      const blocks = given.has('count') ? bytes(given.get('count')!, 'count') : undefined;
      const skip = given.has('skip') ? bytes(given.get('skip')!, 'skip') : 0;
      await untilInterrupted(
        convert({
          sources: [o.spec(from)],
          target: { name: to },
          format,
          settings: {},
          secrets: o.secrets,
          forceShare: o.forceShare,
          range: (size) => {
            // As qemu-img (to version 10.0) has it: count is of the input from its start, so that skip takes away from it.
            const end = blocks === undefined ? size : Math.min(size, blocks * block);
            const offset = Math.min(end, skip * block);
            return { offset, length: Math.max(0, end - offset) };
          },
        }),
        () => {},
      );
      return 0;
    };
  },
};
