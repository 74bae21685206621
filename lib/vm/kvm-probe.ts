import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { hasKvmAddon, type KvmFacts, kvmFacts, type ProbeStep } from '../addon/kvm.js';
import { addonState, packageRoot } from '../addon/load.js';

/** What /dev/kvm is worth here. */
export type KvmState =
  | { readonly kind: 'missing'; readonly reason: string }
  | { readonly kind: 'denied'; readonly reason: string }
  /** The addon that would find out is not there. */
  | { readonly kind: 'unknown'; readonly reason: string }
  /** A guest cannot run on it.  `failed` has every step that went wrong. */
  | { readonly kind: 'unusable'; readonly reason: string; readonly failed: readonly ProbeStep[]; readonly ratio?: number }
  /** Guests run, but no faster than QEMU would emulate them.  `ratio` is the guest's speed over native, at most that. */
  | { readonly kind: 'slow'; readonly reason: string; readonly ratio: number }
  | { readonly kind: 'fit'; readonly ratio: number };

/** QEMU's TCG reaches a tenth of native speed or so; a KVM below this is not worth its risks. */
const WORTH_IT = 0.2;
const LIMIT_MS = 300;

const STEP_NAMES: Readonly<Record<ProbeStep['name'], string>> = {
  start: 'a 64-bit guest',
  sse2: 'SSE2',
  cmpxchg16b: 'cmpxchg16b',
  loop: 'the timed loop',
};

/** 0.97 → "97 %", 0.0002 → "0.02 %". */
export function percent(ratio: number): string {
  const p = ratio * 100;
  return `${p >= 1 ? Math.round(p) : Number(p.toPrecision(1))} %`;
}

/** Decides what the native facts mean. */
export function judge(facts: KvmFacts): KvmState {
  if (facts.openError !== 0) {
    const errno = getSystemErrorName(-facts.openError);
    if (errno === 'EACCES' || errno === 'EPERM') return { kind: 'denied', reason: 'permission denied' };
    if (errno === 'ENOENT' || errno === 'ENODEV' || errno === 'ENXIO')
      return { kind: 'missing', reason: errno === 'ENOENT' ? 'missing' : 'no KVM behind it' };
    return { kind: 'unusable', reason: `cannot be opened (${errno})`, failed: [] };
  }
  // Noise may put a guest above native speed.
  const ratio = facts.nativeRate > 0 ? Math.min(1, facts.guestRate / facts.nativeRate) : 0;
  const below = facts.nativeRate > 0 ? facts.guestRateBelow / facts.nativeRate : 0;
  // A loop that only ran out of time is slow, not broken.
  const failed = facts.steps.filter((s) => !s.ok && !(s.name === 'loop' && below > 0));
  if (failed.length > 0 || facts.steps.length === 0)
    return { kind: 'unusable', reason: describe(failed), failed, ...(ratio > 0 ? { ratio } : {}) };
  if (ratio >= WORTH_IT) return { kind: 'fit', ratio };
  return ratio > 0
    ? { kind: 'slow', reason: `a guest runs at ${percent(ratio)} of native speed`, ratio }
    : { kind: 'slow', reason: `a guest runs at less than ${percent(below)} of native speed`, ratio: below };
}

function describe(failed: readonly ProbeStep[]): string {
  const emulated = failed.filter((s) => s.fact.includes('(emulation)')).map((s) => STEP_NAMES[s.name]);
  const others = failed
    .filter((s) => !s.fact.includes('(emulation)'))
    .map((s) => `${STEP_NAMES[s.name]}: ${s.fact}${s.errno === 0 ? '' : ` (${getSystemErrorName(-s.errno)})`}`);
  const parts = [...others];
  if (emulated.length > 0)
    parts.unshift(`${emulated.join(' and ')} ${emulated.length > 1 ? 'fail' : 'fails'} in this KVM's emulator`);
  return parts.join('; ') || 'the probe gave no result';
}

/** Only what a guest's run has shown holds for the whole boot: modules get loaded, groups changed, memory freed. */
const lasting = (s: KvmState): boolean =>
  s.kind === 'fit' ||
  s.kind === 'slow' ||
  (s.kind === 'unusable' && s.failed.length > 0 && s.failed.every((f) => f.errno === 0 && f.fact.startsWith('KVM_EXIT_')));

/** A folder of ours that nobody else can write to, made when it is not there; undefined where there is none. */
function cacheFolder(): string | undefined {
  const uid = process.getuid?.() ?? -1;
  const runtime = process.env['XDG_RUNTIME_DIR'];
  const dir =
    runtime?.startsWith('/') && existsSync(runtime) ? join(runtime, 'guestwright') : join(tmpdir(), `guestwright-${uid}`);
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch {
    // It is there already, or cannot be made: the next lines tell.
  }
  try {
    const st = lstatSync(dir);
    // In /tmp anyone may have made this name first, or a link of it.
    return st.isDirectory() && st.uid === uid && (st.mode & 0o022) === 0 ? dir : undefined;
  } catch {
    return undefined;
  }
}

/** What a cached result holds for: this boot, this user, this very addon. */
function cacheKey(): string | undefined {
  const state = addonState('kvm');
  if (!state.loaded) return undefined;
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const manifest = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { readonly version?: string };
    const file = statSync(state.path);
    return `${boot} ${process.getuid?.() ?? -1} ${manifest.version ?? ''} ${file.size} ${file.mtimeMs}`;
  } catch {
    return undefined;
  }
}

const KINDS: readonly string[] = ['unusable', 'slow', 'fit'];
function readCache(path: string, key: string): KvmState | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const st = fstatSync(fd);
      if (!st.isFile() || st.uid !== process.getuid?.() || st.size > 65_536) return undefined;
      const c = JSON.parse(readFileSync(fd, 'utf8')) as { readonly key?: unknown; readonly state?: KvmState };
      return c.key === key && c.state !== undefined && KINDS.includes(c.state.kind) ? c.state : undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
function writeCache(path: string, key: string, state: KvmState): void {
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, JSON.stringify({ key, state }), { mode: 0o600, flag: 'wx' });
    renameSync(temporary, path);
  } catch {
    // The next call probes again, that is all.
    rmSync(temporary, { force: true });
  }
}

/** Is the device there and may we use it?  Costs nothing, so it is asked each time. */
function access(path: string): KvmState | undefined {
  if (!existsSync(path)) return { kind: 'missing', reason: 'missing' };
  if (!statSync(path).isCharacterDevice()) return { kind: 'missing', reason: 'is no device' };
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return { kind: 'denied', reason: 'permission denied' };
  }
}

/**
 * Whether /dev/kvm can run a guest at a speed that is worth it.  The first call in a boot runs a short guest (at most 300 ms, twice
 * that where the first run was slow or not done); later ones read the result, unless `refresh`.
 */
export function kvmProbe(options: { readonly refresh?: boolean } = {}): KvmState {
  const refused = access('/dev/kvm');
  if (refused !== undefined) return refused;
  if (!hasKvmAddon()) return { kind: 'unknown', reason: 'addon missing' };
  const key = cacheKey();
  const dir = key === undefined ? undefined : cacheFolder();
  const path = dir === undefined ? undefined : join(dir, 'kvm-probe.json');
  if (!options.refresh && path !== undefined && key !== undefined) {
    const cached = readCache(path, key);
    if (cached !== undefined) return cached;
  }
  let state = probeOnce();
  // A busy machine looks slow or takes all the time for the set-up; a result that may hold for the whole boot deserves a second look.
  if (state.kind === 'slow' || (state.kind === 'unusable' && state.failed.some((f) => f.fact.startsWith('not done')))) {
    const again = probeOnce();
    if (again.kind === 'fit' || state.kind === 'unusable' || (again.kind === 'slow' && again.ratio > state.ratio)) state = again;
  }
  if (path !== undefined && key !== undefined && lasting(state)) writeCache(path, key, state);
  return state;
}

function probeOnce(): KvmState {
  const facts = kvmFacts(LIMIT_MS);
  return facts === undefined ? { kind: 'unknown', reason: 'addon missing' } : judge(facts);
}
