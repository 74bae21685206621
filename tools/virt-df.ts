import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { Option } from 'commander';
import { type DiskSpec, explain, GuestError, humanSize, type Usage } from '../lib/index.js';
import { type DfResult, type DfRow, usageOf } from './shared/df.js';
import { allDomains, domainDisks, domainUuid } from './shared/domain.js';
import { GuestOptions } from './shared/guest.js';
import { csvRow, json, out, warn } from './shared/output.js';
import { cores, inWorkers } from './shared/parallel.js';
import { common, jsonOption, type Tool } from './shared/tool.js';

/** One image gives its base name; a "+" for each further disk of the same guest. */
const displayName = (disks: readonly DiskSpec[]) =>
  basename(disks[0]!.path.replace(/[?#].*$/, '')) + '+'.repeat(disks.length - 1);

/** As df does: what is used, in percent of all, rounded up. */
const percent = (total: number, free: number) => (total > 0 ? Math.ceil(100 - (100 * free) / total) : 0);

/** A worker takes longer to start than a local image takes to read, so a few images are read one after another. */
const PARALLEL_FROM = 4;

export const tool: Tool = {
  name: 'virt-df',
  summary: 'show the free space of guests’ filesystems',
  usage: ['virt-df [OPTIONS] -a DISK [-a DISK …]', 'virt-df [OPTIONS] DISK…', 'virt-df [OPTIONS] [-d DOMAIN …]'],
  examples: [
    ['one guest', 'virt-df -h -a disk.qcow2'],
    ['many images, each a guest of its own, for a spreadsheet', 'virt-df --csv *.qcow2'],
    ['all libvirt guests', 'virt-df'],
  ],
  notes: ['Several -a name the disks of one guest; images named without -a are a guest each.'],
  setup(command) {
    const guest = new GuestOptions().addOptions(command);
    let csv = false;
    let human = false;
    let inodes = false;
    let uuid = false;
    let threads = cores();
    const flag = (names: string, help: string, then: () => void) =>
      command.addOption(
        new Option(names, help).argParser(() => {
          then();
          return true;
        }),
      );
    flag('--csv', 'comma-separated values', () => {
      csv = true;
    });
    flag('-h, --human-readable', 'sizes as 1.5G', () => {
      human = true;
    });
    flag('-i, --inodes', 'inodes instead of blocks', () => {
      inodes = true;
    });
    flag('--uuid', 'name guests by their libvirt UUID', () => {
      uuid = true;
    });
    command.addOption(new Option('--one-per-guest').hideHelp());
    command.addOption(
      new Option('-P <n>', 'guests at once (as many as cores)').argParser((v: string) => {
        threads = positive(v);
        return threads;
      }),
    );
    jsonOption(command);
    return async (given) => {
      if (csv && human) throw new GuestError('usage', '--csv and -h exclude each other');
      const guests: { name: string; disks: () => Promise<readonly DiskSpec[]> }[] = [];
      if (guest.disks.length > 0) guests.push({ name: displayName(guest.disks), disks: async () => guest.disks });
      const domain = (d: string) =>
        guests.push({ name: uuid ? domainUuid(d, guest.connect) : d, disks: () => domainDisks(d, guest.connect) });
      guest.domains.forEach(domain);
      for (const path of given) {
        if (existsSync(path) || /^[a-z+]+:\/\//i.test(path))
          guests.push({ name: displayName([{ path }]), disks: async () => [{ path }] });
        else domain(path);
      }
      if (guests.length === 0) allDomains(guest.connect).forEach(domain);
      const print = printer({ csv, human, inodes });
      const all: DfRow[] = [];
      let failed = 0;
      if (!common.json) print.head();
      const show = (r: DfResult) => {
        for (const w of r.warnings) warn(`virt-df: warning: ${w}`);
        if (common.json) all.push(...r.rows);
        else for (const row of r.rows) print.row(row);
      };
      const items: { name: string; disks: readonly DiskSpec[] }[] = [];
      for (const g of guests) items.push({ name: g.name, disks: await g.disks() });
      if (items.length < PARALLEL_FROM || threads === 1 || guest.keys.given) {
        for (const i of items) {
          try {
            show(usageOf(i.name, i.disks, guest.keys));
          } catch (e) {
            // One broken image must not hide the others.
            if (items.length === 1 || !(e instanceof GuestError)) throw e;
            failed++;
            warn(`virt-df: ${i.name}: ${explain(e)}`);
          }
        }
      } else {
        let at = 0;
        for await (const r of inWorkers<(typeof items)[number], DfResult>(
          new URL('./df-worker.js', import.meta.url),
          items,
          threads,
        )) {
          const { name } = items[at++]!;
          if (!(r instanceof GuestError)) show(r);
          else {
            failed++;
            warn(`virt-df: ${name}: ${explain(r)}`);
          }
        }
      }
      if (common.json)
        out.line(
          json(
            all.map(({ guest: name, device, usage: u }) => ({
              virtualMachine: name,
              filesystem: device,
              size: u.blocks * u.blockSize,
              used: (u.blocks - u.free) * u.blockSize,
              available: u.available * u.blockSize,
              usedPercent: percent(u.blocks, u.free),
              inodes: u.files,
              inodesUsed: u.files - u.freeFiles,
              inodesFree: u.freeFiles,
            })),
          ),
        );
      return failed > 0 ? 1 : 0;
    };
  },
};

function positive(v: string): number {
  const n = Number(v);
  if (!Number.isInteger(n) || n < 1) throw new GuestError('usage', `-P: "${v}" is not a number from 1 up`);
  return n;
}

function printer(o: { readonly csv: boolean; readonly human: boolean; readonly inodes: boolean }) {
  const heads = o.inodes ? ['Inodes', 'IUsed', 'IFree', 'IUse%'] : [o.human ? 'Size' : '1K-blocks', 'Used', 'Available', 'Use%'];
  const line = (name: string, values: readonly string[]) => {
    const [a, b, c, d] = values as [string, string, string, string];
    if (name.length > 36) out.line(name);
    out.line(
      `${(name.length > 36 ? '' : name).padEnd(36)}${a.padStart(10)} ${b.padStart(10)} ${c.padStart(10)} ${d.padStart(5)}`,
    );
  };
  // For people as df has it, "10%"; in CSV one decimal, "9.5".
  const share = (total: number, free: number) =>
    o.csv ? (total > 0 ? 100 - (100 * free) / total : 0).toFixed(1) : `${percent(total, free)}%`;
  const values = (u: Usage): string[] => {
    if (o.inodes) return [String(u.files), String(u.files - u.freeFiles), String(u.freeFiles), share(u.files, u.freeFiles)];
    const size = (blocks: number) =>
      o.human ? humanSize(blocks * u.blockSize) : String(Math.floor((blocks * u.blockSize) / 1024));
    return [size(u.blocks), size(u.blocks - u.free), size(u.available), share(u.blocks, u.free)];
  };
  return {
    head: () => (o.csv ? out.line(csvRow(['VirtualMachine', 'Filesystem', ...heads])) : line('Filesystem', heads)),
    row: (r: DfRow) =>
      o.csv ? out.line(csvRow([r.guest, r.device, ...values(r.usage)])) : line(`${r.guest}:${r.device}`, values(r.usage)),
  };
}
