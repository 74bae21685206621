import { convert as convertImages, GuestError, onOff } from '../../lib/index.js';
import { untilInterrupted } from '../shared/interrupt.js';
import { warn } from '../shared/output.js';
import type { Tool } from '../shared/tool.js';
import { bytes, count, flag, ImgOptions, Settings, value } from './common.js';
import { createHelp } from './option-help.js';
import { PercentLine } from './progress.js';

export const convert: Tool = {
  name: 'virt-img convert',
  summary: 'copy images into a new one, of any format',
  usage: ['virt-img convert [OPTIONS] SOURCE… TARGET'],
  examples: [
    ['from VMware to QEMU', 'virt-img convert -p -O qcow2 disk.vmdk disk.qcow2'],
    ['small, for the archive', 'virt-img convert -c -O qcow2 -o compression_type=zstd disk.raw disk.qcow2'],
    ['for OVF', 'virt-img convert -O vmdk -o subformat=streamOptimized disk.qcow2 disk.vmdk'],
  ],
  notes: ['The target appears when it is complete: a conversion that fails or is interrupted leaves what was there.'],
  setup(command) {
    const o = new ImgOptions(command)
      .addFormat('format of the sources instead of probing')
      .addImageOpts()
      .addForceShare()
      .addQuiet()
      .addProgress()
      .addCache('-T, --source-cache <mode>', false)
      .addCache('-t, --target-cache <mode>', true);
    const settings = new Settings();
    let format = 'raw';
    let targetOpts = false;
    let compress = false;
    let existing = false;
    let targetIsZero = false;
    let bitmaps = false;
    let skipBroken = false;
    let salvage = false;
    let snapshot: string | undefined;
    let backing: string | undefined;
    let backingFormat: string | undefined;
    let sparseSize: number | undefined;
    let rate: number | undefined;
    value(command, '-O, --target-format <format>', 'format of the new image (raw)', (v) => {
      format = v;
    });
    value(command, '-o, --target-options <settings>', 'settings of the format, NAME=VALUE,…; "help" lists them', (v) =>
      settings.add(v),
    );
    flag(command, '--target-image-opts', 'the target is an option string (with -n)', () => {
      targetOpts = true;
    });
    flag(command, '-c, --compress', 'compress', () => {
      compress = true;
    });
    value(command, '-B, --backing <file>', 'backing file of the new image: only what differs from it is stored', (v) => {
      backing = v;
    });
    value(command, '-b <file>', 'as -B', (v) => {
      backing = v;
    });
    value(command, '-F, --backing-format <format>', 'format of the backing file', (v) => {
      backingFormat = v;
    });
    value(
      command,
      '-l, --source-snapshot <snapshot>',
      'internal snapshot to read: ID, NAME, snapshot.id=… or snapshot.name=…',
      (v) => {
        snapshot = v;
      },
    );
    flag(command, '-n, --no-create', 'write into an existing target', () => {
      existing = true;
    });
    flag(command, '--target-is-zero', 'the existing target reads as zeroes', () => {
      targetIsZero = true;
    });
    value(command, '-S, --sparse-size <size>', 'zeroes in a row that become a hole (4k); 0 writes everything', (v) => {
      sparseSize = bytes(v, '-S');
      if (sparseSize % 512 !== 0) throw new GuestError('usage', `-S: ${v} is not a multiple of 512`);
    });
    flag(command, '--bitmaps', 'copy persistent bitmaps', () => {
      bitmaps = true;
    });
    flag(command, '--skip-broken-bitmaps', 'leave out inconsistent bitmaps', () => {
      skipBroken = true;
    });
    flag(command, '--salvage', 'what cannot be read becomes zeroes', () => {
      salvage = true;
    });
    value(command, '-r, --rate <bytes>', 'bytes a second', (v) => {
      rate = bytes(v, '-r');
    });
    value(command, '-m, --parallel <n>', 'pieces at once (all cores are used anyway)', (v) => {
      count(v, '-m', 1, 16);
    });
    flag(command, '-W, --oob-writes', 'write out of order (of no effect)', () => {});
    flag(command, '-C, --copy-range-offloading', 'let the kernel copy (of no effect)', () => {});
    return async (args) => {
      if (settings.help) return createHelp(format);
      if (args.length < 2) throw new GuestError('usage', 'at least one source and one target are expected');
      if (targetIsZero && !existing) throw new GuestError('usage', '--target-is-zero needs -n');
      if (targetOpts && !existing) throw new GuestError('usage', '--target-image-opts needs -n');
      if (existing && (settings.given || backing !== undefined))
        throw new GuestError('usage', '-o and -B are for new images, not for -n');
      if (skipBroken && !bitmaps) throw new GuestError('usage', '--skip-broken-bitmaps needs --bitmaps');
      if (existing && bitmaps && compress) throw new GuestError('usage', '-n, -c and --bitmaps cannot be used together');
      const values = settings.values;
      if (compress && onOff(values['data_file_raw'] ?? 'off', 'data_file_raw'))
        throw new GuestError('usage', 'an image with an external data file has no compressed clusters');
      const name = args[args.length - 1]!;
      const line = new PercentLine(o.progress && !o.quiet);
      line.report(0, 1);
      await untilInterrupted(
        convertImages({
          sources: args.slice(0, -1).map((a) => o.spec(a)),
          target: existing ? (targetOpts ? targetSpec(o, name) : { name, format: format === 'raw' ? 'raw' : format }) : { name },
          format,
          settings: values,
          backing: backing === undefined ? undefined : { name: backing, format: backingFormat ?? values['backing_fmt'] },
          secrets: o.secrets,
          snapshot,
          sparseSize,
          compress,
          existing,
          targetIsZero,
          bitmaps,
          skipBrokenBitmaps: skipBroken,
          forceShare: o.forceShare,
          rate,
          salvage: salvage
            ? (offset, length) => {
                if (!o.quiet)
                  warn(`virt-img convert: warning: ${length} bytes at ${offset} cannot be read, zeroes stand for them`);
              }
            : undefined,
          warn: (text) => warn(`virt-img convert: ${text}`),
          sync: o.cache !== undefined && o.cache !== 'unsafe',
        }),
        (s) => line.report(s.done, s.total),
      );
      line.end();
      return 0;
    };
  },
};

function targetSpec(o: ImgOptions, name: string) {
  const before = o.imageOpts;
  o.imageOpts = true;
  try {
    return o.spec(name, undefined);
  } finally {
    o.imageOpts = before;
  }
}
