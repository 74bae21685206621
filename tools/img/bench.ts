import { GuestError, openSpec, openSpecWritable, type WritableImage } from '../../lib/index.js';
import { out } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { bytes, count, flag, ImgOptions, oneFile, value } from './common.js';

export const bench: Tool = {
  name: 'virt-img bench',
  summary: 'simple sequential I/O benchmark',
  usage: ['virt-img bench [OPTIONS] FILE'],
  examples: [['how fast are reads of 64 KiB?', 'virt-img bench -s 64k -c 10000 disk.qcow2']],
  notes: ['-w writes a pattern into the image: its contents are lost.'],
  setup(command) {
    const o = new ImgOptions(command).addFormat().addImageOpts().addForceShare().addQuiet().addCache('-t, --cache <mode>', false);
    const s = { requests: 75000, depth: 64, size: 4096, step: 0, offset: 0, pattern: 0, flush: 0, write: false };
    value(command, '-c, --count <n>', 'requests (75000)', (v) => {
      s.requests = count(v, '-c');
    });
    value(command, '-d, --depth <n>', 'requests in flight (64; they are made one after another)', (v) => {
      s.depth = count(v, '-d');
    });
    value(command, '-s, --buffer-size <size>', 'bytes a request (4k)', (v) => {
      s.size = bytes(v, '-s');
    });
    value(command, '-S, --step-size <size>', 'distance between requests (their size)', (v) => {
      s.step = bytes(v, '-S');
    });
    value(command, '-o, --offset <offset>', 'first byte (0)', (v) => {
      s.offset = bytes(v, '-o');
    });
    value(command, '-i, --aio <mode>', 'I/O interface (of no effect)', (v) => {
      if (!['threads', 'native', 'io_uring'].includes(v)) throw new GuestError('usage', `invalid aio option: ${v}`);
    });
    flag(command, '-n, --native', 'kernel AIO (of no effect)', () => {});
    flag(command, '-w, --write', 'write instead of reading', () => {
      s.write = true;
    });
    value(command, '--pattern <byte>', 'byte to write (0)', (v) => {
      s.pattern = count(v, '--pattern', 0, 255);
    });
    value(command, '--flush-interval <n>', 'flush after so many requests', (v) => {
      s.flush = count(v, '--flush-interval', 0);
    });
    flag(command, '--no-drain', 'do not wait before a flush (of no effect)', () => {});
    return (args) => {
      if (s.size === 0 || s.size > 1 << 30) throw new GuestError('usage', `-s: ${s.size} is not a size from 1 to 1 GiB`);
      if (s.flush > 0 && !s.write) throw new GuestError('usage', '--flush-interval is for write tests');
      const spec = o.spec(oneFile(args));
      const image = s.write ? openSpecWritable(spec, { secrets: o.secrets }) : openSpec(spec, o.open);
      const step = s.step || s.size;
      try {
        if (s.size > image.size) throw new GuestError('usage', `requests of ${s.size} bytes on a disk of ${image.size}`);
        const drain = s.flush > 0 ? `Sending flush every ${s.flush} requests\n` : '';
        o.say(
          `Sending ${s.requests} ${s.write ? 'write' : 'read'} requests, ${s.size} bytes each, ${s.depth} in parallel (starting at offset ${s.offset}, step size ${step})`,
        );
        if (!o.quiet) out.write(drain);
        out.flush();
        const buffer = new Uint8Array(s.size).fill(s.pattern);
        const begin = performance.now();
        let at = s.offset;
        for (let i = 0; i < s.requests; i++) {
          if (at + s.size > image.size) at = (at + s.size) % image.size <= s.size ? 0 : at % image.size;
          if (at + s.size > image.size) at = 0;
          if (s.write) {
            (image as WritableImage).write(buffer, at);
            if (s.flush > 0 && (i + 1) % s.flush === 0) (image as WritableImage).flush();
          } else image.read(buffer, at);
          at += step;
        }
        o.say(`Run completed in ${((performance.now() - begin) / 1000).toFixed(3)} seconds.`);
      } finally {
        image.close();
      }
      return 0;
    };
  },
};
