import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { guestTables, hasKvmAddon, kvmFacts, recordGuest } from '../../lib/addon/kvm.js';
import { kvmProbe } from '../../lib/vm/kvm-probe.js';
import { itIf } from '../helpers/needs.js';

const native = itIf(hasKvmAddon(), 'the kvm part of the addon is not built');
const state = kvmProbe();
const opens = hasKvmAddon() && state.kind !== 'missing' && state.kind !== 'denied';
const onKvm = itIf(opens, opens ? '' : `/dev/kvm does not open: ${'reason' in state ? state.reason : state.kind}`);

// One instruction a line, as an assembler would list them.
const bytes = (...lines: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(lines.flat());
const io = (address: number, size: number, value: number, write = true) => ({ kind: 'io', write, address, size, value });
const mmio = (address: number, size: number, value: number, write = true) => ({ kind: 'mmio', write, address, size, value });

/** vCPU threads and KVM descriptors of this process. */
function leftovers(): { threads: number; kvm: number } {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return { threads: readdirSync('/proc/self/task').length, kvm: links.filter((l) => l.includes('kvm')).length };
}

describe('small guests', () => {
  onKvm('a real-mode guest writes to a port and reads an answer back', () => {
    const code = bytes(
      [0xba, 0xf8, 0x03], // mov dx, 0x3f8
      [0xb0, 0x41], // mov al, 'A'
      [0xee], // out dx, al
      [0xed], // in ax, dx
      [0x40], // inc ax
      [0xef], // out dx, ax
      [0xf4], // hlt
    );
    const r = recordGuest('real', code, { answers: [0x1233] })!;
    expect(r.end).toBe('halt');
    expect(r.accesses).toEqual([io(0x3f8, 1, 0x41), io(0x3f8, 2, 0x1233, false), io(0x3f8, 2, 0x1234)]);
    expect(r.registers).toMatch(/rip=0x800a .*rax=0x1234 .*cs=0x0 /);
  });

  onKvm('a 32-bit guest reads and writes where there is no memory', () => {
    const code = bytes(
      [0xbf, 0x00, 0x00, 0x00, 0x10], // mov edi, 0x10000000
      [0x8b, 0x07], // mov eax, [edi]
      [0x05, 0x01, 0x00, 0x00, 0x00], // add eax, 1
      [0x89, 0x47, 0x08], // mov [edi + 8], eax
      [0xf4], // hlt
    );
    const r = recordGuest('protected', code, { answers: [0x7fff_ffff] })!;
    expect(r.end).toBe('halt');
    expect(r.accesses).toEqual([mmio(0x1000_0000, 4, 0x7fff_ffff, false), mmio(0x1000_0008, 4, 0x8000_0000)]);
  });

  onKvm('a 64-bit guest sums numbers in 64-bit registers, through its stack', () => {
    const code = bytes(
      [0x48, 0xb8, 0, 0, 0, 0, 1, 0, 0, 0], // mov rax, 0x1_0000_0000
      [0x50], // push rax
      [0x31, 0xc0], // xor eax, eax
      [0xb9, 0x64, 0x00, 0x00, 0x00], // mov ecx, 100
      [0x48, 0x01, 0xc8], // again: add rax, rcx
      [0xff, 0xc9], // dec ecx
      [0x75, 0xf9], // jnz again
      [0x5b], // pop rbx
      [0x48, 0x01, 0xd8], // add rax, rbx
      [0xe7, 0x10], // out 0x10, eax
      [0x48, 0xc1, 0xe8, 0x20], // shr rax, 32
      [0xe7, 0x11], // out 0x11, eax
      [0xf4], // hlt
    );
    const r = recordGuest('long', code)!;
    expect(r.end).toBe('halt');
    expect(r.accesses).toEqual([io(0x10, 4, 5050), io(0x11, 4, 1)]);
    expect(r.registers).toMatch(/cs=0x8 .*efer=0x500/);
  });

  onKvm('an exception without a handler is a shutdown, with the registers told', () => {
    const r = recordGuest('protected', bytes([0x0f, 0x0b]))!; // ud2
    // An emulating KVM may give up on the event instead of shutting down; what counts is that it ends and is told.
    expect(r.end).toMatch(/^(shutdown|KVM_EXIT_INTERNAL_ERROR \(.*\))$/);
    expect(r.registers).toMatch(/^rip=0x/);
  });

  onKvm('an endless guest is stopped, again and again, and nothing of it is left', () => {
    const spin = bytes([0xeb, 0xfe]); // jmp to itself
    recordGuest('long', spin, { limitMs: 20 });
    const before = leftovers();
    for (let i = 0; i < 10; i++) {
      const started = performance.now();
      const r = recordGuest(i % 2 === 0 ? 'long' : 'real', spin, { limitMs: 30 })!;
      expect(r.end).toBe('time limit');
      expect(r.registers).toContain('rip=0x8000 ');
      // Two seconds is when the thread would be given up.
      expect(performance.now() - started).toBeLessThan(2000);
    }
    expect(leftovers()).toEqual(before);
  });

  onKvm('a guest that never leaves a port alone fills no memory', () => {
    const code = bytes([0xe6, 0x80], [0xeb, 0xfc]); // again: out 0x80, al; jmp again
    const r = recordGuest('real', code, { limitMs: 5000 })!;
    expect(['too many exits', 'time limit']).toContain(r.end);
    expect(r.accesses.length).toBeGreaterThan(0);
    expect(r.accesses.length).toBeLessThanOrEqual(10_000);
  });

  native('refuses sizes and modes that make no sense', () => {
    expect(() => recordGuest('long', new Uint8Array(1), { memorySize: 100 })).toThrow(/whole pages, 64 KiB to 1 GiB/);
    expect(() => recordGuest('long', new Uint8Array(1), { limitMs: 0 })).toThrow(/1 to 60000 milliseconds/);
    expect(() => recordGuest('virtual' as 'long', new Uint8Array(1))).toThrow(/the mode must be/);
  });
  onKvm('says that the code does not fit into the memory', () => {
    expect(() => recordGuest('long', new Uint8Array(0x10000), { memorySize: 0x10000 })).toThrow(/too small for its code/);
  });
});

describe('the probe on this machine', () => {
  onKvm('ends in time, says something about each step, and leaves nothing', () => {
    kvmFacts(300);
    const before = leftovers();
    const facts = kvmFacts(300)!;
    expect(facts.openError).toBe(0);
    expect(facts.milliseconds).toBeLessThan(2500);
    expect(facts.steps.length).toBeGreaterThan(0);
    for (const s of facts.steps) expect(s.ok, `${s.name}: ${s.fact}`).toBe(s.fact === '');
    expect(leftovers()).toEqual(before);
  });
  onKvm('tells "out of time" from "broken" when there is no time at all', () => {
    const facts = kvmFacts(1)!;
    const last = facts.steps.at(-1);
    expect(facts.milliseconds).toBeLessThan(2500);
    if (last !== undefined && !last.ok) expect(last.fact).not.toBe('');
  });
});

describe('tables of a 64-bit guest', () => {
  const tables = () => new DataView(guestTables(0x5000)!.buffer);
  native('the GDT has flat 64-bit code, data and 32-bit code', () => {
    const t = tables();
    // The descriptors every x86 boot path uses, with the accessed bit set.
    expect([0, 8, 16, 24].map((at) => t.getBigUint64(0x1000 + at, true))).toEqual([
      0n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x00cf_9b00_0000_ffffn,
    ]);
  });
  native('the page tables map each address of the first GiB to itself', () => {
    const t = tables();
    const walk = (virtual: number): number => {
      const entry = (table: number, shift: number) =>
        Number(t.getBigUint64(table + (Math.floor(virtual / 2 ** shift) % 512) * 8, true));
      const present = (e: number) => expect(e % 4).toBe(3);
      const pml4 = entry(0x2000, 39);
      const pdpt = entry(pml4 - (pml4 % 4096), 30);
      const directory = entry(pdpt - (pdpt % 4096), 21);
      for (const e of [pml4, pdpt, directory]) present(e);
      expect(directory & 0x80).toBe(0x80);
      return directory - (directory % 2 ** 21) + (virtual % 2 ** 21);
    };
    for (const a of [0, 0x8000, 0x1f_ffff, 0x20_0000, 0x1234_5678, 0x3fff_ffff]) expect(walk(a)).toBe(a);
    expect(t.getBigUint64(0x2008, true)).toBe(0n);
    expect(t.getBigUint64(0x3008, true)).toBe(0n);
  });
  native('the IDT has a 64-bit interrupt gate for each exception', () => {
    const t = tables();
    for (let v = 0; v < 32; v++) {
      const at = 0x1800 + v * 16;
      expect(t.getUint16(at, true) + t.getUint16(at + 6, true) * 65_536).toBe(0x8000 + v * 16);
      expect(t.getUint16(at + 2, true)).toBe(8);
      expect(t.getUint16(at + 4, true)).toBe(0x8e00);
    }
  });
  native('memory that is too small for the tables is an error, not a write past its end', () => {
    for (const size of [0, 0x1000, 0x1fff, 0x4fff]) expect(() => guestTables(size)).toThrow(/too small for its tables/);
  });
});
