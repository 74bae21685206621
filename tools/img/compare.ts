import { type Comparison, compareImages, explain, GuestError, type Image, openSpec } from '../../lib/index.js';
import { untilInterrupted } from '../shared/interrupt.js';
import { json, out, warn } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { flag, ImgOptions, value } from './common.js';
import { PercentLine } from './progress.js';

export const compare: Tool = {
  name: 'virt-img compare',
  summary: 'do two images have the same contents?',
  usage: ['virt-img compare [OPTIONS] FILE1 FILE2'],
  examples: [['was the conversion right?', 'virt-img compare disk.vmdk disk.qcow2']],
  notes: ['Exit status: 0 identical, 1 different, 2 an image cannot be opened, 4 an image cannot be read.'],
  errorStatus: 2,
  setup(command) {
    const o = new ImgOptions(command)
      .addFormat('format of the first image')
      .addImageOpts()
      .addForceShare()
      .addQuiet()
      .addProgress()
      .addOutput()
      .addCache('-T, --cache <mode>', false);
    let second: string | undefined;
    let strict = false;
    value(command, '-F, --b-format <format>', 'format of the second image', (v) => {
      second = v;
    });
    flag(command, '-s, --strict', 'sizes and allocation must be the same too', () => {
      strict = true;
    });
    return async (args) => {
      if (args.length !== 2) throw new GuestError('usage', 'two image file names are expected');
      const a = openSpec(o.spec(args[0]!), o.open);
      try {
        const b = openSpec(o.spec(args[1]!, second), o.open);
        try {
          const result = await run(a, b, strict, new PercentLine(o.progress && !o.quiet));
          return report(result, o);
        } finally {
          b.close();
        }
      } finally {
        a.close();
      }
    };
  },
};

async function run(a: Image, b: Image, strict: boolean, line: PercentLine): Promise<Comparison> {
  let result: Comparison | undefined;
  const steps = compareImages(a, b, strict);
  function* pieces() {
    result = yield* steps;
  }
  try {
    line.report(0, 1);
    await untilInterrupted(pieces(), (s) => line.report(s.done, s.total));
  } catch (e) {
    // Tables that cannot be read: the images are open, so this is no failure to open.
    if (e instanceof GuestError && e.code !== 'cancelled') result = { kind: 'unreadable', offset: 0, message: explain(e) };
    else throw e;
  } finally {
    line.end();
  }
  return result!;
}

function report(r: Comparison, o: ImgOptions): number {
  if (o.json) out.line(json(r));
  else
    switch (r.kind) {
      case 'size':
        o.say('Strict mode: Image size mismatch!');
        break;
      case 'status':
        o.say(`Strict mode: Offset ${r.offset} block status mismatch!`);
        break;
      case 'content':
        if (r.sizesDiffer) o.say('Warning: Image size mismatch!');
        o.say(`Content mismatch at offset ${r.offset}!`);
        break;
      case 'identical':
        if (r.sizesDiffer) o.say('Warning: Image size mismatch!');
        o.say('Images are identical.');
    }
  if (r.kind === 'unreadable') {
    warn(`virt-img compare: error while reading offset ${r.offset}: ${r.message}`);
    return 4;
  }
  return r.kind === 'identical' ? 0 : 1;
}
