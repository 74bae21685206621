import { pbkdf2Sync, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { type BlockSource, readAt, readUpTo, type WritableSource } from '../block/source.js';
import { corrupt, GuestError, hex, unsupported, usage } from '../core/errors.js';
import { bytes, struct, u16, u32 } from '../core/struct.js';
import { cString, encodeName } from '../core/text.js';
import { afMerge, afSplit } from './af.js';
import { type SectorCipher, sectorCipher } from './sector.js';

/** LUKS1 On-Disk Format Specification 1.2.3 (cryptsetup, docs/on-disk-format.pdf). */
export const Luks1Header = struct('LUKS1 header', 'be', 592, {
  magic: bytes(0, 6),
  version: u16(6),
  cipherName: bytes(8, 32),
  cipherMode: bytes(40, 32),
  hashSpec: bytes(72, 32),
  payloadOffset: u32(104),
  keyBytes: u32(108),
  digest: bytes(112, 20),
  digestSalt: bytes(132, 32),
  digestIterations: u32(164),
  uuid: bytes(168, 40),
});
const KeySlot = struct('LUKS1 key slot', 'be', 48, {
  active: u32(0),
  iterations: u32(4),
  salt: bytes(8, 32),
  keyOffset: u32(40),
  stripes: u32(44),
});
const MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const ENABLED = 0x00ac71f3;
const DISABLED = 0x0000dead;
export const LUKS1_SLOTS = 8;
const SLOT_AT = 208;
const STRIPES = 4000;
const SECTOR = 512;
/** A passphrase that takes longer than minutes to try is an attack on us. */
const MAX_ITERATIONS = 1 << 28;
const MAX_KEY_BYTES = 64;
const MAX_STRIPES = 16384;

export interface Luks1Slot {
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Sectors from the header's start. */
  readonly keyOffset: number;
  readonly stripes: number;
}
export interface Luks1 {
  readonly cipher: string;
  readonly mode: string;
  readonly hash: string;
  readonly uuid: string;
  readonly keyBytes: number;
  /** In sectors. */
  readonly payloadOffset: number;
  readonly digest: Uint8Array;
  readonly digestSalt: Uint8Array;
  readonly digestIterations: number;
  readonly slots: readonly Luks1Slot[];
}

export const isLuks1 = (head: Uint8Array): boolean =>
  head.length >= 8 && MAGIC.every((b, i) => head[i] === b) && head[6] === 0 && head[7] === 1;

/** Parses and validates a header; `available` bytes may hold it and its key material. */
export function parseLuks1(head: Uint8Array, available: number): Luks1 {
  if (!isLuks1(head)) throw new GuestError('wrong-format', 'no LUKS1 signature');
  const h = Luks1Header.at(head);
  if (h.keyBytes === 0 || h.keyBytes > MAX_KEY_BYTES) throw corrupt(`LUKS1 key of ${h.keyBytes} bytes (1 to ${MAX_KEY_BYTES})`);
  const slots: Luks1Slot[] = [];
  for (let i = 0; i < LUKS1_SLOTS; i++) {
    const k = KeySlot.at(head, SLOT_AT + i * KeySlot.size);
    if (k.active !== ENABLED && k.active !== DISABLED) throw corrupt(`LUKS1 key slot ${i} has state ${hex(k.active)}`);
    const active = k.active === ENABLED;
    if (k.stripes === 0 || k.stripes > MAX_STRIPES)
      throw corrupt(`LUKS1 key slot ${i} has ${k.stripes} stripes (1 to ${MAX_STRIPES})`);
    const start = k.keyOffset * SECTOR;
    const end = start + k.stripes * h.keyBytes;
    if (start < 592) throw corrupt(`LUKS1 key slot ${i} at ${hex(start)} overlaps the header`);
    if (active && end > available) throw corrupt(`LUKS1 key slot ${i} at ${hex(start)} is past the end (${hex(available)})`);
    if (active && (k.iterations === 0 || k.iterations > MAX_ITERATIONS))
      throw corrupt(`LUKS1 key slot ${i} has ${k.iterations} iterations`);
    if (h.payloadOffset !== 0 && end > h.payloadOffset * SECTOR)
      throw corrupt(`LUKS1 key slot ${i} ends at ${hex(end)}, inside the payload (from ${hex(h.payloadOffset * SECTOR)})`);
    for (const [j, o] of slots.entries())
      if (start < o.keyOffset * SECTOR + o.stripes * h.keyBytes && o.keyOffset * SECTOR < end)
        throw corrupt(`LUKS1 key slots ${j} and ${i} overlap`);
    slots.push({ active, iterations: k.iterations, salt: k.salt.slice(), keyOffset: k.keyOffset, stripes: k.stripes });
  }
  if (h.digestIterations === 0 || h.digestIterations > MAX_ITERATIONS)
    throw corrupt(`LUKS1 digest has ${h.digestIterations} iterations`);
  return {
    cipher: cString(h.cipherName),
    mode: cString(h.cipherMode),
    hash: cString(h.hashSpec),
    uuid: cString(h.uuid),
    keyBytes: h.keyBytes,
    payloadOffset: h.payloadOffset,
    digest: h.digest.slice(),
    digestSalt: h.digestSalt.slice(),
    digestIterations: h.digestIterations,
    slots,
  };
}

function pbkdf2(passphrase: Uint8Array, salt: Uint8Array, iterations: number, length: number, hash: string): Uint8Array {
  try {
    return pbkdf2Sync(passphrase, salt, iterations, length, hash);
  } catch {
    throw unsupported(`PBKDF2 with hash "${hash}" is not supported by this Node's OpenSSL`);
  }
}

const slotCipher = (h: Luks1, key: Uint8Array): SectorCipher => sectorCipher({ cipher: h.cipher, mode: h.mode, key });

/** The volume key, opened by `passphrase`, with the slot that fits; undefined when none does. */
export function unlockLuks1(
  header: BlockSource,
  h: Luks1,
  passphrase: Uint8Array,
  only?: number,
): { readonly key: Uint8Array; readonly slot: number } | undefined {
  for (const [i, slot] of h.slots.entries()) {
    if (!slot.active || (only !== undefined && only !== i)) continue;
    const derived = pbkdf2(passphrase, slot.salt, slot.iterations, h.keyBytes, h.hash);
    const length = Math.ceil((slot.stripes * h.keyBytes) / SECTOR) * SECTOR;
    const material = new Uint8Array(length);
    material.set(readUpTo(header, slot.keyOffset * SECTOR, length));
    slotCipher(h, derived).decrypt(material, 0);
    const key = afMerge(material, h.keyBytes, slot.stripes, h.hash);
    const digest = pbkdf2(key, h.digestSalt, h.digestIterations, 20, h.hash);
    if (timingSafeEqual(digest, h.digest)) return { key, slot: i };
  }
  return undefined;
}

export interface Luks1CreateOptions {
  readonly cipher?: string;
  readonly mode?: string;
  readonly hash?: string;
  readonly keyBytes?: number;
  /** Time one try of the passphrase shall take. */
  readonly iterMs?: number;
  readonly uuid?: string;
}

/** Bytes of header and key material, whole 4 KiB blocks, for a volume key of `keyBytes`. */
export function luks1HeaderBytes(keyBytes: number): number {
  return SLOTS_START * SECTOR + slotSectors(keyBytes) * SECTOR * LUKS1_SLOTS;
}
const SLOTS_START = 8;
const slotSectors = (keyBytes: number) => Math.ceil((STRIPES * keyBytes) / 4096) * 8;

/** Iterations that take about `ms` here. */
function iterationsFor(hash: string, keyBytes: number, ms: number): number {
  const probe = 20_000;
  const before = process.cpuUsage();
  pbkdf2(new Uint8Array(8), new Uint8Array(32), probe, keyBytes, hash);
  const used = process.cpuUsage(before);
  const micros = Math.max(100, used.user + used.system);
  return Math.min(0x7fffffff, Math.max(1000, Math.floor((probe * ms * 1000) / micros)));
}

/** A new header with one key slot, written to `target` at 0; gives the volume key. */
export function createLuks1(
  target: WritableSource,
  passphrase: Uint8Array,
  options: Luks1CreateOptions = {},
): { readonly header: Luks1; readonly key: Uint8Array } {
  const cipher = options.cipher ?? 'aes';
  const mode = options.mode ?? 'xts-plain64';
  const hashName = options.hash ?? 'sha256';
  const keyBytes = options.keyBytes ?? (mode.startsWith('xts') ? 64 : 32);
  const key = randomBytes(keyBytes);
  sectorCipher({ cipher, mode, key });
  const iterMs = options.iterMs ?? 2000;
  const out = new Uint8Array(1024);
  const h = Luks1Header.at(out);
  h.magic = Uint8Array.from(MAGIC);
  h.version = 1;
  h.cipherName.set(encodeName(cipher));
  h.cipherMode.set(encodeName(mode));
  h.hashSpec.set(encodeName(hashName));
  h.payloadOffset = luks1HeaderBytes(keyBytes) / SECTOR;
  h.keyBytes = keyBytes;
  h.digestSalt = randomBytes(32);
  h.digestIterations = Math.max(1000, Math.floor(iterationsFor(hashName, 20, iterMs) / 8));
  h.digest = pbkdf2(key, h.digestSalt, h.digestIterations, 20, hashName);
  h.uuid.set(encodeName(options.uuid ?? randomUUID()));
  for (let i = 0; i < LUKS1_SLOTS; i++) {
    const k = KeySlot.at(out, SLOT_AT + i * KeySlot.size);
    k.active = DISABLED;
    k.keyOffset = SLOTS_START + i * slotSectors(keyBytes);
    k.stripes = STRIPES;
  }
  target.zero(0, luks1HeaderBytes(keyBytes));
  target.write(out.subarray(0, 592), 0);
  const header = parseLuks1(out, luks1HeaderBytes(keyBytes));
  return { header: addLuks1Key(target, header, key, passphrase, { slot: 0, iterMs }), key };
}

/** Puts `passphrase` into a free slot (or the one named). */
export function addLuks1Key(
  target: WritableSource,
  h: Luks1,
  key: Uint8Array,
  passphrase: Uint8Array,
  options: { readonly slot?: number; readonly iterMs?: number } = {},
): Luks1 {
  const slot = options.slot ?? h.slots.findIndex((s) => !s.active);
  const k = h.slots[slot];
  if (k === undefined)
    throw usage(options.slot === undefined ? 'all 8 LUKS key slots are in use' : `no LUKS key slot ${slot} (0 to 7)`);
  if (k.active) throw usage(`LUKS key slot ${slot} is in use`);
  const salt = randomBytes(32);
  const iterations = iterationsFor(h.hash, h.keyBytes, options.iterMs ?? 2000);
  const derived = pbkdf2(passphrase, salt, iterations, h.keyBytes, h.hash);
  const split = afSplit(key, k.stripes, h.hash);
  const material = new Uint8Array(Math.ceil(split.length / SECTOR) * SECTOR);
  material.set(split);
  slotCipher(h, derived).encrypt(material, 0);
  // The key material first: a slot is enabled only when it is all there.
  target.write(material, k.keyOffset * SECTOR);
  return writeSlot(target, slot, { active: ENABLED, iterations, salt, keyOffset: k.keyOffset, stripes: k.stripes });
}

/** Wipes a slot: the header first, then the key material with random bytes. */
export function eraseLuks1Slot(target: WritableSource, h: Luks1, slot: number): Luks1 {
  const k = h.slots[slot];
  if (k === undefined) throw usage(`no LUKS key slot ${slot} (0 to 7)`);
  const next = writeSlot(target, slot, {
    active: DISABLED,
    iterations: 0,
    salt: new Uint8Array(32),
    keyOffset: k.keyOffset,
    stripes: k.stripes,
  });
  target.write(randomBytes(Math.ceil((k.stripes * h.keyBytes) / SECTOR) * SECTOR), k.keyOffset * SECTOR);
  return next;
}

function writeSlot(
  target: WritableSource,
  slot: number,
  values: { active: number; iterations: number; salt: Uint8Array; keyOffset: number; stripes: number },
): Luks1 {
  const head = readAt(target, 0, 592);
  Object.assign(KeySlot.at(head, SLOT_AT + slot * KeySlot.size), values);
  target.write(head, 0);
  return parseLuks1(head, target.size);
}

/** One line for a failed unlock. */
export const noKeyFits = (what: string) =>
  new GuestError('needs-key', `no key slot of this ${what} opens with the passphrase given`);
