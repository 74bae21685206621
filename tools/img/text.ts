import type { ImageInfo, SnapshotInfo } from '../../lib/index.js';

/** qemu-img's way with sizes: "10 MiB", "1.21 MiB", "0 B": three digits of the mantissa. */
export function sizeText(n: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
  let i = 0;
  // From 1000 on the next unit is nearer to three digits.
  while (i < units.length - 1 && n / 1024 ** i >= 1000) i++;
  return `${threeDigits(n / 1024 ** i)} ${units[i]}B`;
}

/** As printf("%.3g"). */
function threeDigits(v: number): string {
  const s = v.toPrecision(3);
  return s.includes('e') ? Number(s).toString() : s.includes('.') ? s.replace(/\.?0+$/, '') : s;
}

const two = (n: number) => String(n).padStart(2, '0');

/** Local time, as date(1) has it. */
function dateText(sec: number): string {
  const d = new Date(sec * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

function clockText(nsec: bigint): string {
  const ms = nsec / 1000000n;
  const s = ms / 1000n;
  return `${String(s / 3600n).padStart(2, '0')}:${two(Number((s / 60n) % 60n))}:${two(Number(s % 60n))}.${String(ms % 1000n).padStart(3, '0')}`;
}

const NO_ICOUNT = 0xffffffffffffffffn;

/** The table of `snapshot -l` and `info`. */
export function snapshotTable(snapshots: readonly SnapshotInfo[]): string[] {
  const row = (id: string, tag: string, size: string, date: string, clock: string, icount: string) =>
    `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(12)} ${icount.padStart(10)}`;
  return [
    'Snapshot list:',
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map((s) =>
      row(
        s.id,
        s.name,
        sizeText(s.vmStateSize),
        dateText(s.dateSec),
        clockText(s.vmClockNsec),
        s.icount === undefined || s.icount === NO_ICOUNT ? '' : String(s.icount),
      ),
    ),
  ];
}

export function snapshotJson(s: SnapshotInfo): Record<string, unknown> {
  return {
    ...(s.icount === undefined || s.icount === NO_ICOUNT ? {} : { icount: s.icount }),
    'vm-clock-nsec': Number(s.vmClockNsec % 1000000000n),
    name: s.name,
    'date-sec': s.dateSec,
    'date-nsec': s.dateNsec,
    'vm-clock-sec': Number(s.vmClockNsec / 1000000000n),
    id: s.id,
    'vm-state-size': s.vmStateSize,
  };
}

/** "Format specific information", indented as qemu-img prints nested values. */
export function specificLines(value: unknown, depth = 1): string[] {
  const pad = '    '.repeat(depth);
  const entries: [string, unknown][] = Array.isArray(value)
    ? value.map((v, i) => [`[${i}]`, v])
    : Object.entries(value as Record<string, unknown>).map(([k, v]) => [k.replaceAll('-', ' '), v]);
  return entries.flatMap(([k, v]) =>
    typeof v === 'object' && v !== null ? [`${pad}${k}:`, ...specificLines(v, depth + 1)] : [`${pad}${k}: ${String(v)}`],
  );
}

/** A format that says nothing beyond what all say has no section of its own. */
export const hasSpecific = (info: ImageInfo): boolean => info.specific !== undefined && Object.keys(info.specific).length > 0;
