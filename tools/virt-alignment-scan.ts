import { basename } from 'node:path';
import { Option } from 'commander';
import { type DiskSpec, GuestError, openStorage } from '../lib/index.js';
import { allDomains, domainDisks, domainUuid } from './shared/domain.js';
import { GuestOptions } from './shared/guest.js';
import { json, out } from './shared/output.js';
import { common, jsonOption, type Tool } from './shared/tool.js';

interface Row {
  readonly guest?: string;
  readonly device: string;
  readonly start: number;
  /** Largest power of two that divides the start, in bytes. */
  readonly alignment: number;
}

/** Largest power of two that divides `n`. */
function alignmentOf(n: number): number {
  let a = 1;
  while (n > 0 && n % (a * 2) === 0) a *= 2;
  return a;
}
const verdict = (a: number) => (a < 4096 ? 'bad (alignment < 4K)' : a < 65536 ? 'bad (alignment < 64K)' : 'ok');

export const tool: Tool = {
  name: 'virt-alignment-scan',
  summary: 'report partitions that are badly aligned',
  usage: ['virt-alignment-scan [OPTIONS] -a DISK [-a DISK …]', 'virt-alignment-scan [OPTIONS] [-d DOMAIN …]'],
  examples: [
    ['one image', 'virt-alignment-scan -a disk.qcow2'],
    ['only the status: 0 good, 2 below 64K, 3 below 4K', 'virt-alignment-scan -q -a disk.qcow2; echo $?'],
  ],
  setup(command) {
    const guest = new GuestOptions().addOptions(command, { keys: false });
    let quiet = false;
    let uuid = false;
    command.addOption(new Option('-P <n>', 'scans at once (accepted for compatibility)').argParser((v: string) => v));
    command.addOption(
      new Option('-q, --quiet', 'no output, only the exit status').argParser(() => {
        quiet = true;
        return true;
      }),
    );
    command.addOption(
      new Option('--uuid', 'name guests by their libvirt UUID').argParser(() => {
        uuid = true;
        return true;
      }),
    );
    jsonOption(command);
    return async (args) => {
      if (args.length > 0) throw new GuestError('usage', `extra argument "${args[0]}": disks are named with -a`);
      const scans: { name?: string; disks: readonly DiskSpec[] }[] = [];
      if (guest.disks.length > 0) scans.push({ disks: guest.disks });
      const domains = guest.given ? guest.domains : allDomains(guest.connect);
      for (const d of domains)
        scans.push({ name: uuid ? domainUuid(d, guest.connect) : d, disks: await domainDisks(d, guest.connect) });
      const rows: Row[] = [];
      for (const s of scans) {
        const storage = openStorage(s.disks);
        for (const n of storage.nodes())
          if (n.partition !== undefined && n.partition.role !== 'extended')
            rows.push({
              ...(s.name === undefined ? {} : { guest: s.name }),
              device: n.device,
              start: n.partition.start,
              alignment: alignmentOf(n.partition.start),
            });
        storage.close();
      }
      if (rows.length === 0)
        throw new GuestError(
          'not-found',
          `no partition was found on ${scans.flatMap((s) => s.disks.map((d) => basename(d.path))).join(', ') || 'any guest'}`,
        );
      if (common.json && !quiet)
        out.line(json(rows.map((r) => ({ ...r, ok: r.alignment >= 65536, verdict: verdict(r.alignment) }))));
      else if (!quiet)
        for (const r of rows) {
          const name = (r.guest === undefined ? '' : `${r.guest}:`) + r.device;
          const value =
            r.alignment < 1024 ? `${String(r.alignment).padStart(12)} ` : `${String(r.alignment / 1024).padStart(12)}K`;
          out.line(`${name} ${String(r.start).padStart(12)} ${value}   ${verdict(r.alignment)}`);
        }
      const worst = Math.min(...rows.map((r) => r.alignment));
      return worst < 4096 ? 3 : worst < 65536 ? 2 : 0;
    };
  },
};
