import { type ErrorCode, GuestError } from '../core/errors.js';
import { loadTarget } from './load.js';

/** One step of the probe's guest. */
export interface ProbeStep {
  readonly name: 'start' | 'sse2' | 'cmpxchg16b' | 'loop';
  readonly ok: boolean;
  /** Why not: the call that was refused, or KVM's exit with its suberror. */
  readonly fact: string;
  /** Where a call was refused; else 0. */
  readonly errno: number;
  /** Instruction bytes at the place where the guest stopped, in hex. */
  readonly instruction: string;
  readonly registers: string;
}

/** Facts about /dev/kvm as the native probe finds them. */
export interface KvmFacts {
  /** errno of opening /dev/kvm; 0 when it opened. */
  readonly openError: number;
  readonly steps: readonly ProbeStep[];
  /** Iterations a second of one loop in the guest (0: did not end) and natively. */
  readonly guestRate: number;
  /** When the loop did not end in time: the guest is slower than this. */
  readonly guestRateBelow: number;
  readonly nativeRate: number;
  readonly milliseconds: number;
}

export type GuestMode = 'real' | 'protected' | 'long';
export interface GuestAccess {
  readonly kind: 'io' | 'mmio';
  readonly write: boolean;
  readonly address: number;
  readonly size: number;
  readonly value: number;
}
export interface GuestRecording {
  readonly accesses: readonly GuestAccess[];
  /** "halt", "shutdown", "time limit", "too many exits", or the KVM exit that ended it. */
  readonly end: string;
  readonly registers: string;
}

interface Native {
  probe(limitMs: number): KvmFacts;
  record(mode: GuestMode, code: Uint8Array, memorySize: number, answers: readonly number[], limitMs: number): GuestRecording;
  tables(size: number): Uint8Array;
}

let native: Native | undefined;
let asked = false;
function addon(): Native | undefined {
  if (!asked) {
    asked = true;
    native = loadTarget<Native>('kvm');
  }
  return native;
}
/** A native failure (errno and what was being done) as ours; anything else is passed through. */
function explained(e: unknown, code: ErrorCode): unknown {
  const { code: errno, syscall } = e as NodeJS.ErrnoException;
  if (errno === undefined || syscall === undefined) return e;
  return new GuestError(code, `${syscall} (${errno})`, { device: '/dev/kvm', errno }, e);
}
/** Loads the KVM part of the addon; false where it is not built or switched off. */
export const hasKvmAddon = (): boolean => addon() !== undefined;

/** Runs the probe's guest; undefined without the addon.  Blocks for at most about `limitMs`, never throws for what KVM does. */
export const kvmFacts = (limitMs: number): KvmFacts | undefined => addon()?.probe(limitMs);

/**
 * Runs raw machine code (loaded at 0x8000, one vCPU) until it halts or fails, and says what it read and wrote at ports and at
 * addresses without memory.  `answers` are what its reads get, in order, then 0.  Undefined without the addon.
 */
export function recordGuest(
  mode: GuestMode,
  code: Uint8Array,
  options: { readonly memorySize?: number; readonly answers?: readonly number[]; readonly limitMs?: number } = {},
): GuestRecording | undefined {
  try {
    return addon()?.record(mode, code, options.memorySize ?? 0x20000, options.answers ?? [], options.limitMs ?? 1000);
  } catch (e) {
    throw explained(e, 'no-kvm');
  }
}

/** The first `size` bytes of a 64-bit guest's memory with GDT, IDT and page tables; undefined without the addon. */
export function guestTables(size: number): Uint8Array | undefined {
  try {
    return addon()?.tables(size);
  } catch (e) {
    throw explained(e, 'usage');
  }
}
