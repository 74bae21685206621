import { pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { createRequire } from 'node:module';
import { type BlockSource, readAt, readUpTo } from '../block/source.js';
import { corrupt, GuestError, hex, unsupported } from '../core/errors.js';
import { bytes, struct, u16, u64 } from '../core/struct.js';
import { cString, utf8 } from '../core/text.js';
import { afMerge } from './af.js';
import { hash, sectorCipher } from './sector.js';

/** LUKS2 On-Disk Format Specification 1.1.x (cryptsetup, docs/on-disk-format-luks2.pdf): reading and unlocking. */
const Header = struct('LUKS2 header', 'be', 4096, {
  magic: bytes(0, 6),
  version: u16(6),
  headerSize: u64(8),
  sequence: u64(16),
  label: bytes(24, 48),
  checksumName: bytes(72, 32),
  uuid: bytes(168, 40),
  headerOffset: u64(256),
  checksum: bytes(448, 64),
});
const PRIMARY = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const SECONDARY = [0x53, 0x4b, 0x55, 0x4c, 0xba, 0xbe];
/** Where the second header may stand (specification, section 2.3). */
const SECONDARY_OFFSETS = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000];
const MAX_HEADER = 4 << 20;
const MAX_MEMORY_KIB = 4 << 20;
const MAX_ITERATIONS = 1 << 28;
const MAX_STRIPES = 16384;

interface Area {
  readonly encryption: string;
  readonly key_size: number;
  readonly offset: string;
  readonly size: string;
}
interface Keyslot {
  readonly type: string;
  readonly key_size: number;
  readonly priority?: number;
  readonly af: { readonly type: string; readonly stripes: number; readonly hash: string };
  readonly area: Area;
  readonly kdf: {
    readonly type: string;
    readonly salt: string;
    readonly hash?: string;
    readonly iterations?: number;
    readonly time?: number;
    readonly memory?: number;
    readonly cpus?: number;
  };
}
interface Segment {
  readonly type: string;
  readonly offset: string;
  readonly size: string;
  readonly iv_tweak: string;
  readonly encryption: string;
  readonly sector_size: number;
  readonly integrity?: unknown;
  readonly flags?: readonly string[];
}
interface Digest {
  readonly type: string;
  readonly keyslots: readonly string[];
  readonly segments: readonly string[];
  readonly salt: string;
  readonly digest: string;
  readonly hash: string;
  readonly iterations: number;
}
interface Metadata {
  readonly keyslots: Readonly<Record<string, Keyslot>>;
  readonly segments: Readonly<Record<string, Segment>>;
  readonly digests: Readonly<Record<string, Digest>>;
  readonly config?: { readonly requirements?: { readonly mandatory?: readonly string[] } };
}

export interface Luks2 {
  readonly uuid: string;
  readonly label: string;
  readonly metadata: Metadata;
  /** "the primary header is damaged; the secondary one was used". */
  readonly problems: readonly string[];
}

const starts = (b: Uint8Array, magic: readonly number[]) =>
  b.length >= 8 && magic.every((x, i) => b[i] === x) && b[6] === 0 && b[7] === 2;
export const isLuks2 = (head: Uint8Array): boolean => starts(head, PRIMARY);

/** The newer of the two headers whose checksum is right; throws corrupt when neither is. */
export function readLuks2(source: BlockSource): Luks2 {
  const tries: { header?: Luks2 & { sequence: number }; error?: GuestError }[] = [];
  const attempt = (offset: number, magic: readonly number[]) => {
    try {
      tries.push({ header: readHeader(source, offset, magic) });
    } catch (e) {
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      tries.push({ error: e });
    }
  };
  attempt(0, PRIMARY);
  for (const offset of SECONDARY_OFFSETS) if (starts(readUpTo(source, offset, 8), SECONDARY)) attempt(offset, SECONDARY);
  const good = tries.flatMap((t) => (t.header === undefined ? [] : [t.header])).sort((a, b) => b.sequence - a.sequence);
  const best = good[0];
  if (best === undefined) throw tries[0]!.error ?? corrupt('LUKS2: no header is readable');
  const primary = tries[0]!.error;
  return {
    uuid: best.uuid,
    label: best.label,
    metadata: best.metadata,
    problems: primary === undefined ? [] : [`${primary.message}; the secondary LUKS2 header was used`],
  };
}

function readHeader(source: BlockSource, offset: number, magic: readonly number[]): Luks2 & { sequence: number } {
  const binary = readAt(source, offset, Header.size);
  if (!starts(binary, magic)) throw new GuestError('wrong-format', `no LUKS2 signature at ${hex(offset)}`, { offset });
  const h = Header.at(binary);
  const size = h.headerSize;
  if (size < 16384 || size > MAX_HEADER) throw corrupt(`LUKS2 header at ${hex(offset)} says it has ${size} bytes`, { offset });
  if (h.headerOffset !== offset)
    throw corrupt(`LUKS2 header at ${hex(offset)} says it stands at ${hex(h.headerOffset)}`, { offset });
  const all = readAt(source, offset, size);
  const stored = h.checksum.slice();
  all.fill(0, Header.offset.checksum, Header.offset.checksum + 64);
  const sum = hash(cString(h.checksumName), all);
  if (!Buffer.from(sum).equals(stored.subarray(0, sum.length)))
    throw corrupt(`LUKS2 header at ${hex(offset)} has a wrong checksum`, { offset });
  const json = all.subarray(Header.size);
  const end = json.indexOf(0);
  let metadata: Metadata;
  try {
    metadata = JSON.parse(utf8(end < 0 ? json : json.subarray(0, end))) as Metadata;
  } catch (e) {
    throw corrupt(`LUKS2 header at ${hex(offset)} has no valid JSON (${e instanceof Error ? e.message : e})`, { offset });
  }
  for (const part of ['keyslots', 'segments', 'digests'] as const)
    if (typeof metadata?.[part] !== 'object' || metadata[part] === null)
      throw corrupt(`LUKS2 header at ${hex(offset)} has no ${part}`, { offset });
  return { uuid: cString(h.uuid), label: cString(h.label), metadata, problems: [], sequence: h.sequence };
}

/** A number that the format writes as a decimal string, because it may have 64 bits. */
function decimal(text: unknown, what: string): number {
  const n = typeof text === 'string' && /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(n)) throw corrupt(`LUKS2: ${what} is ${JSON.stringify(text)}`);
  return n;
}
function whole(n: unknown, what: string, least: number, most: number): number {
  if (typeof n !== 'number' || !Number.isInteger(n) || n < least || n > most)
    throw corrupt(`LUKS2: ${what} is ${JSON.stringify(n)} (${least} to ${most})`);
  return n;
}
const base64 = (text: unknown, what: string): Uint8Array => {
  if (typeof text !== 'string') throw corrupt(`LUKS2: ${what} is missing`);
  return Buffer.from(text, 'base64');
};

interface Argon2 {
  hashRawSync(password: Uint8Array, options: Record<string, unknown>): Buffer;
}

/** The key that a passphrase gives for a slot. */
function derive(k: Keyslot, passphrase: Uint8Array, length: number): Uint8Array {
  const { kdf } = k;
  const salt = base64(kdf?.salt, 'salt of a key slot');
  if (kdf.type === 'pbkdf2') {
    const iterations = whole(kdf.iterations, 'iterations of a key slot', 1, MAX_ITERATIONS);
    try {
      return pbkdf2Sync(passphrase, salt, iterations, length, String(kdf.hash));
    } catch {
      throw unsupported(`PBKDF2 with hash "${kdf.hash}" is not supported by this Node's OpenSSL`);
    }
  }
  if (kdf.type !== 'argon2i' && kdf.type !== 'argon2id')
    throw unsupported(`LUKS2 key derivation "${kdf.type}" is not supported (pbkdf2, argon2i and argon2id are)`);
  const memoryCost = whole(kdf.memory, 'memory of a key slot', 8, MAX_MEMORY_KIB);
  const timeCost = whole(kdf.time, 'time of a key slot', 1, 1 << 20);
  const parallelism = whole(kdf.cpus, 'cpus of a key slot', 1, 64);
  let argon2: Argon2;
  try {
    argon2 = createRequire(import.meta.url)('@node-rs/argon2') as Argon2;
  } catch {
    throw unsupported(
      `LUKS2 key derivation "${kdf.type}" needs the npm package @node-rs/argon2, which has no build for this machine`,
    );
  }
  return argon2.hashRawSync(passphrase, {
    algorithm: kdf.type === 'argon2i' ? 1 : 2,
    version: 1,
    salt,
    memoryCost,
    timeCost,
    parallelism,
    outputLen: length,
  });
}

function openSlot(source: BlockSource, k: Keyslot, passphrase: Uint8Array): Uint8Array {
  const keyBytes = whole(k.key_size, 'key size', 1, 512);
  const stripes = whole(k.af?.stripes, 'stripes', 1, MAX_STRIPES);
  const area = k.area;
  const [cipher, mode] = splitCipher(area?.encryption);
  const derived = derive(k, passphrase, whole(area.key_size, 'key size of an area', 1, 512));
  const length = Math.ceil((keyBytes * stripes) / 512) * 512;
  if (length > decimal(area.size, 'size of an area'))
    throw corrupt(`LUKS2: key material of ${length} bytes does not fit its area of ${area.size}`);
  const material = readAt(source, decimal(area.offset, 'offset of an area'), length);
  sectorCipher({ cipher, mode, key: derived }).decrypt(material, 0);
  return afMerge(material, keyBytes, stripes, String(k.af.hash));
}

/** "aes-xts-plain64" → ["aes", "xts-plain64"]. */
function splitCipher(text: unknown): [string, string] {
  const dash = typeof text === 'string' ? text.indexOf('-') : -1;
  if (dash < 0) throw corrupt(`LUKS2: cipher is ${JSON.stringify(text)}`);
  return [(text as string).slice(0, dash), (text as string).slice(dash + 1)];
}

/** The payload: where it lies, and how it is encrypted. */
export interface Luks2Payload {
  readonly offset: number;
  /** Undefined: to the end of the device. */
  readonly size?: number;
  readonly cipher: string;
  readonly mode: string;
  readonly sectorSize: number;
  /** Initial value of the first sector, in 512-byte units. */
  readonly tweak: number;
}

/** The one crypt segment; anything else (integrity, reencryption, several segments) is named. */
export function luks2Payload(h: Luks2): Luks2Payload {
  const mandatory = h.metadata.config?.requirements?.mandatory ?? [];
  if (mandatory.length > 0)
    throw unsupported(`LUKS2 device with the requirement ${mandatory.map((m) => `"${m}"`).join(', ')} is not supported`);
  const segments = Object.values(h.metadata.segments);
  const s = segments[0];
  if (s === undefined || segments.length !== 1)
    throw unsupported(`LUKS2 device with ${segments.length} segments is not supported (1 is)`);
  if (s.type !== 'crypt') throw unsupported(`LUKS2 segment of type "${s.type}" is not supported`);
  if (s.integrity !== undefined) throw unsupported('LUKS2 with integrity protection (dm-integrity) is not supported');
  const [cipher, mode] = splitCipher(s.encryption);
  const sectorSize = whole(s.sector_size, 'sector size', 512, 4096);
  return {
    offset: decimal(s.offset, 'offset of the segment'),
    ...(s.size === 'dynamic' ? {} : { size: decimal(s.size, 'size of the segment') }),
    cipher,
    mode,
    sectorSize,
    tweak: decimal(s.iv_tweak, 'iv_tweak of the segment'),
  };
}

/** The volume key, by the first slot that `passphrase` opens; undefined when none does. */
export function unlockLuks2(source: BlockSource, h: Luks2, passphrase: Uint8Array): Uint8Array | undefined {
  const segment = Object.keys(h.metadata.segments)[0]!;
  const slots = Object.entries(h.metadata.keyslots).sort((a, b) => (b[1].priority ?? 1) - (a[1].priority ?? 1));
  let refused: GuestError | undefined;
  for (const [name, k] of slots) {
    const digest = Object.values(h.metadata.digests).find((d) => d.keyslots?.includes(name) && d.segments?.includes(segment));
    if (digest === undefined || k.type !== 'luks2') continue;
    try {
      const key = openSlot(source, k, passphrase);
      const want = base64(digest.digest, 'digest');
      if (digest.type !== 'pbkdf2') throw unsupported(`LUKS2 digest "${digest.type}" is not supported`);
      const got = pbkdf2Sync(
        key,
        base64(digest.salt, 'salt of a digest'),
        whole(digest.iterations, 'iterations of a digest', 1, MAX_ITERATIONS),
        want.length,
        String(digest.hash),
      );
      if (got.length > 0 && timingSafeEqual(got, want)) return key;
    } catch (e) {
      // One damaged or unknown slot must not hide the others.
      if (!(e instanceof GuestError) || e.code === 'io') throw e;
      refused ??= e;
    }
  }
  if (refused !== undefined) throw refused;
  return undefined;
}
