import { chmodSync, mkdirSync, mkdtempSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { hasKvmAddon, type KvmFacts, type ProbeStep } from '../../lib/addon/kvm.js';
import { judge, kvmProbe, percent } from '../../lib/vm/kvm-probe.js';
import { itIf } from '../helpers/needs.js';
import { temporaryFolder } from '../helpers/tmp.js';
import { tool } from '../helpers/tool.js';

const folder = temporaryFolder();
const tmp = (): string => mkdtempSync(join(folder, 'run-'));

const step = (name: ProbeStep['name'], fact = '', errno = 0): ProbeStep => ({
  name,
  ok: fact === '',
  fact,
  errno,
  instruction: '',
  registers: '',
});
const good = ['start', 'sse2', 'cmpxchg16b', 'loop'].map((n) => step(n as ProbeStep['name']));
const facts = (f: Partial<KvmFacts>): KvmFacts => ({
  openError: 0,
  steps: good,
  guestRate: 9e8,
  guestRateBelow: 0,
  nativeRate: 1e9,
  milliseconds: 20,
  ...f,
});
const EMULATION = 'KVM_EXIT_INTERNAL_ERROR (emulation)';

describe('what the facts mean', () => {
  it('fit when all steps pass at a good part of native speed', () => {
    expect(judge(facts({}))).toEqual({ kind: 'fit', ratio: 0.9 });
  });
  it('slow when it is no faster than emulation, also when the loop never ended', () => {
    expect(judge(facts({ guestRate: 1e7 }))).toEqual({
      kind: 'slow',
      reason: 'a guest runs at 1 % of native speed',
      ratio: 0.01,
    });
    const unfinished = facts({
      guestRate: 0,
      guestRateBelow: 5e4,
      steps: [...good.slice(0, 3), step('loop', 'not done within the time limit')],
    });
    expect(judge(unfinished)).toMatchObject({ kind: 'slow', reason: 'a guest runs at less than 0.005 % of native speed' });
  });
  it('unusable with the failing instruction named, however fast the rest is', () => {
    const one = facts({ steps: [good[0]!, good[1]!, step('cmpxchg16b', EMULATION), good[3]!] });
    expect(judge(one)).toMatchObject({ kind: 'unusable', reason: "cmpxchg16b fails in this KVM's emulator", ratio: 0.9 });
    const two = facts({ steps: [good[0]!, step('sse2', EMULATION), step('cmpxchg16b', EMULATION), good[3]!] });
    expect(judge(two)).toMatchObject({ reason: "SSE2 and cmpxchg16b fail in this KVM's emulator" });
  });
  it('unusable with the call and its errno when KVM refuses', () => {
    const busy = facts({ steps: [step('start', 'KVM_CREATE_VM', constants.errno.EBUSY)], guestRate: 0, nativeRate: 0 });
    expect(judge(busy)).toMatchObject({ kind: 'unusable', reason: 'a 64-bit guest: KVM_CREATE_VM (EBUSY)' });
    expect(judge(facts({ steps: [] }))).toMatchObject({ kind: 'unusable', reason: 'the probe gave no result' });
  });
  it('missing and denied by errno', () => {
    expect(judge(facts({ openError: constants.errno.ENOENT }))).toMatchObject({ kind: 'missing' });
    expect(judge(facts({ openError: constants.errno.ENODEV }))).toMatchObject({ kind: 'missing', reason: 'no KVM behind it' });
    expect(judge(facts({ openError: constants.errno.EACCES }))).toMatchObject({ kind: 'denied' });
    expect(judge(facts({ openError: constants.errno.EMFILE }))).toMatchObject({
      kind: 'unusable',
      reason: 'cannot be opened (EMFILE)',
    });
  });
  it('prints percentages that say something', () => {
    expect([0.974, 0.01, 0.0042, 0.0002].map(percent)).toEqual(['97 %', '1 %', '0.4 %', '0.02 %']);
  });
});

const first = kvmProbe();
const lasting = hasKvmAddon() && ['fit', 'slow', 'unusable'].includes(first.kind);
const onKvm = itIf(lasting, lasting ? '' : `no result to keep: /dev/kvm is ${'reason' in first ? first.reason : first.kind}`);

describe('the kept result', () => {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  afterEach(() => {
    if (runtime === undefined) delete process.env['XDG_RUNTIME_DIR'];
    else process.env['XDG_RUNTIME_DIR'] = runtime;
  });
  /** A folder of its own for the kept result, already probed once. */
  const probed = () => {
    const dir = tmp();
    process.env['XDG_RUNTIME_DIR'] = dir;
    kvmProbe();
    return join(dir, 'guestwright', 'kvm-probe.json');
  };
  const planted = (file: string, change: (kept: { key: string; state: unknown }) => void) => {
    const kept = JSON.parse(readFileSync(file, 'utf8')) as { key: string; state: unknown };
    kept.state = { kind: 'fit', ratio: 42 };
    change(kept);
    writeFileSync(file, JSON.stringify(kept));
  };

  onKvm('is read the second time, in a file only its owner can read', () => {
    const file = probed();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(join(file, '..')).mode & 0o777).toBe(0o700);
    planted(file, () => undefined);
    expect(kvmProbe()).toEqual({ kind: 'fit', ratio: 42 });
  });
  onKvm('is made anew with refresh, for another boot or addon, and when it is damaged', () => {
    const file = probed();
    planted(file, () => undefined);
    expect(kvmProbe({ refresh: true })).not.toEqual({ kind: 'fit', ratio: 42 });
    planted(file, (kept) => {
      kept.key = `x${kept.key}`;
    });
    expect(kvmProbe()).not.toEqual({ kind: 'fit', ratio: 42 });
    for (const damaged of ['', '{', 'null', '{"key":1}', '[]']) {
      writeFileSync(file, damaged);
      expect(kvmProbe().kind).toMatch(/^(fit|slow|unusable)$/);
    }
  });
  onKvm('is not taken from a folder that others can write to, nor through a link', () => {
    const file = probed();
    planted(file, () => undefined);
    chmodSync(join(file, '..'), 0o777);
    expect(kvmProbe()).not.toEqual({ kind: 'fit', ratio: 42 });
    chmodSync(join(file, '..'), 0o700);
    const elsewhere = tmp();
    mkdirSync(join(elsewhere, 'real'));
    symlinkSync(join(file, '..'), join(elsewhere, 'guestwright'));
    process.env['XDG_RUNTIME_DIR'] = elsewhere;
    expect(kvmProbe()).not.toEqual({ kind: 'fit', ratio: 42 });
  });
});

describe('guestwright doctor', () => {
  interface Found {
    readonly what: string;
    readonly ok: boolean;
    readonly found: string;
    readonly probe?: { readonly kind: string };
  }
  const kvmFinding = (args: readonly string[], env: Readonly<Record<string, string>>): Found =>
    (JSON.parse(tool('guestwright', ['doctor', '--json', ...args], { env }).stdout) as Found[]).find(
      (f) => f.what === '/dev/kvm',
    )!;
  it('says of /dev/kvm what the probe found, in words and in JSON', () => {
    const f = kvmFinding(['--refresh'], { XDG_RUNTIME_DIR: tmp() });
    const words: Readonly<Record<string, RegExp>> = {
      missing: /^(missing|is no device|no KVM behind it)$/,
      denied: /^permission denied$/,
      unknown: /^unknown: addon missing$/,
      fit: /^present, permitted, and fit \([0-9.]+ % of native\)$/,
      slow: /^present but not fit: a guest runs at .* of native speed; QEMU without KVM will be used$/,
      unusable: /^present but not fit: .+; QEMU without KVM will be used$/,
    };
    expect(f.found).toMatch(words[f.probe!.kind]!);
    expect(f.ok).toBe(f.probe!.kind === 'fit');
  });
  itIf(first.kind !== 'missing' && first.kind !== 'denied', '/dev/kvm does not open')(
    'says that it cannot know without the addon',
    () => {
      expect(kvmFinding([], { GUESTWRIGHT_NO_ADDON: '1' })).toMatchObject({ ok: false, found: 'unknown: addon missing' });
    },
  );
});
