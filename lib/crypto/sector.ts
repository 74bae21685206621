import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { GuestError, unsupported, usage } from '../core/errors.js';
import { nativeSectorCipher } from './native.js';
import { xorInto, xtsMask } from './xts.js';

/** Encrypts and decrypts whole sectors in place.  `sector`: number of the first one. */
export interface SectorCipher {
  readonly sectorSize: number;
  decrypt(data: Uint8Array, sector: number): void;
  encrypt(data: Uint8Array, sector: number): void;
}

/** As in a LUKS header: cipher "aes", mode "xts-plain64", "cbc-essiv:sha256", "cbc-plain64", "cbc-plain". */
export interface SectorCipherSpec {
  readonly cipher: string;
  readonly mode: string;
  readonly key: Uint8Array;
  readonly sectorSize?: number;
  /**
   * What the initial value grows by from one sector to the next: 1, or sectorSize / 512 where sectors are larger but
   * counted in 512 bytes (LUKS2).
   */
  readonly ivStep?: number;
}

let native: ((spec: SectorCipherSpec) => SectorCipher | undefined) | undefined;
/** Another native version than the addon's; it may decline with undefined. */
export function setNativeSectorCipher(make: ((spec: SectorCipherSpec) => SectorCipher | undefined) | undefined): void {
  native = make;
}

export function sectorCipher(spec: SectorCipherSpec): SectorCipher {
  return (native ?? nativeSectorCipher)(spec) ?? pureSectorCipher(spec);
}

/** The version on node:crypto; exported so that a test can compare a native one with it. */
export function pureSectorCipher(spec: SectorCipherSpec): SectorCipher {
  const name = `${spec.cipher}-${spec.mode}`;
  if (spec.cipher !== 'aes') throw unsupported(`cipher "${name}" is not supported (aes is)`);
  const [chain, iv = ''] = spec.mode.split('-', 2);
  const xts = chain === 'xts';
  const bits = (xts ? spec.key.length / 2 : spec.key.length) * 8;
  if (bits !== 128 && bits !== 192 && bits !== 256)
    throw unsupported(`${name} with a key of ${spec.key.length} bytes is not supported`);
  const sectorSize = spec.sectorSize ?? 512;
  const tweak = tweakOf(iv, spec.key, name, spec.ivStep ?? 1);
  if (xts) return new Xts(spec.key, bits, sectorSize, tweak);
  if (chain === 'cbc') return new Cbc(spec.key, bits, sectorSize, tweak);
  if (chain === 'ecb') return new Ecb(spec.key, bits, sectorSize);
  throw unsupported(`cipher mode "${spec.mode}" is not supported (xts, cbc and ecb are)`);
}

/** Initial values of `count` sectors, 16 bytes each. */
type Tweak = (sector: number, count: number) => Uint8Array;

function tweakOf(iv: string, key: Uint8Array, name: string, step: number): Tweak {
  const counter = (sector: number, count: number, wide: boolean): Uint8Array => {
    const out = new Uint8Array(count * 16);
    const v = new DataView(out.buffer);
    for (let i = 0; i < count; i++) {
      const n = (sector + i) * step;
      v.setUint32(i * 16, n % 0x100000000, true);
      if (wide) v.setUint32(i * 16 + 4, Math.floor(n / 0x100000000), true);
    }
    return out;
  };
  if (iv === 'plain64') return (s, n) => counter(s, n, true);
  if (iv === 'plain') return (s, n) => counter(s, n, false);
  if (iv === 'plain64be')
    return (s, n) => {
      const out = new Uint8Array(n * 16);
      const v = new DataView(out.buffer);
      for (let i = 0; i < n; i++) {
        v.setUint32(i * 16 + 8, Math.floor(((s + i) * step) / 0x100000000));
        v.setUint32(i * 16 + 12, ((s + i) * step) % 0x100000000);
      }
      return out;
    };
  if (iv === '' || iv === 'null') return (_s, n) => new Uint8Array(n * 16);
  if (iv.startsWith('essiv:')) {
    const salt = hash(iv.slice(6), key);
    if (salt.length !== 16 && salt.length !== 24 && salt.length !== 32)
      throw unsupported(`${name}: a hash of ${salt.length} bytes is no AES key`);
    return (s, n) => ecb(true, salt, counter(s, n, true));
  }
  throw unsupported(`${name}: initial values "${iv}" are not supported (plain, plain64, plain64be, essiv:HASH are)`);
}

export function hash(name: string, data: Uint8Array): Uint8Array {
  try {
    return createHash(name).update(data).digest();
  } catch {
    throw unsupported(`hash "${name}" is not supported by this Node's OpenSSL`);
  }
}

function ecb(encrypt: boolean, key: Uint8Array, data: Uint8Array): Uint8Array {
  const c = encrypt
    ? createCipheriv(`aes-${key.length * 8}-ecb`, key, null)
    : createDecipheriv(`aes-${key.length * 8}-ecb`, key, null);
  c.setAutoPadding(false);
  return c.update(data);
}

function sectorsOf(data: Uint8Array, size: number): number {
  if (data.length % size !== 0)
    throw new GuestError('internal', `internal error: ${data.length} bytes are not whole sectors of ${size}`);
  return data.length / size;
}

/** Big requests are worked on in pieces, so that the mask stays in the processor's cache. */
const PIECE = 1 << 17;

/**
 * One AES-ECB call for many sectors, tweaks put in by exclusive or: a cipher object a sector would cost five times as
 * much.
 */
class Xts implements SectorCipher {
  readonly #k1: Uint8Array;
  readonly #k2: Uint8Array;
  #mask = new Uint32Array(0);
  #work = new Uint32Array(0);
  constructor(
    key: Uint8Array,
    bits: number,
    readonly sectorSize: number,
    private readonly tweak: Tweak,
  ) {
    if (sectorSize % 16 !== 0) throw usage(`sector size ${sectorSize} is not a multiple of 16`);
    this.#k1 = key.slice(0, bits / 8);
    this.#k2 = key.slice(bits / 8);
  }
  decrypt(data: Uint8Array, sector: number): void {
    this.#run(data, sector, false);
  }
  encrypt(data: Uint8Array, sector: number): void {
    this.#run(data, sector, true);
  }
  #run(data: Uint8Array, sector: number, encrypt: boolean): void {
    sectorsOf(data, this.sectorSize);
    const step = Math.max(this.sectorSize, PIECE - (PIECE % this.sectorSize));
    if (this.#mask.length < Math.min(step, data.length) / 4) {
      this.#mask = new Uint32Array(Math.min(step, data.length) / 4);
      this.#work = new Uint32Array(this.#mask.length);
    }
    const work = this.#work;
    const workBytes = new Uint8Array(work.buffer);
    for (let at = 0; at < data.length; at += step) {
      const n = Math.min(step, data.length - at);
      const count = n / this.sectorSize;
      const first = new Uint8Array(ecb(true, this.#k2, this.tweak(sector + at / this.sectorSize, count)));
      xtsMask(this.#mask, new Uint32Array(first.buffer, 0, count * 4), this.sectorSize / 16);
      const piece = data.subarray(at, at + n);
      workBytes.set(piece);
      xorInto(work, this.#mask, n / 4);
      workBytes.set(ecb(encrypt, this.#k1, workBytes.subarray(0, n)));
      xorInto(work, this.#mask, n / 4);
      piece.set(workBytes.subarray(0, n));
    }
  }
}

/** Decryption is one ECB call and an exclusive or with the ciphertext before; encryption is a chain, one call a sector. */
class Cbc implements SectorCipher {
  constructor(
    private readonly key: Uint8Array,
    private readonly bits: number,
    readonly sectorSize: number,
    private readonly tweak: Tweak,
  ) {}
  decrypt(data: Uint8Array, sector: number): void {
    const count = sectorsOf(data, this.sectorSize);
    const iv = this.tweak(sector, count);
    const plain = ecb(false, this.key, data);
    for (let s = 0; s < count; s++) {
      const at = s * this.sectorSize;
      for (let i = 0; i < 16; i++) plain[at + i] = plain[at + i]! ^ iv[s * 16 + i]!;
      for (let i = at + 16; i < at + this.sectorSize; i++) plain[i] = plain[i]! ^ data[i - 16]!;
    }
    data.set(plain);
  }
  encrypt(data: Uint8Array, sector: number): void {
    const count = sectorsOf(data, this.sectorSize);
    const iv = this.tweak(sector, count);
    for (let s = 0; s < count; s++) {
      const part = data.subarray(s * this.sectorSize, (s + 1) * this.sectorSize);
      const c = createCipheriv(`aes-${this.bits}-cbc`, this.key, iv.subarray(s * 16, s * 16 + 16));
      c.setAutoPadding(false);
      part.set(c.update(part));
    }
  }
}

class Ecb implements SectorCipher {
  constructor(
    private readonly key: Uint8Array,
    bits: number,
    readonly sectorSize: number,
  ) {
    if (bits === 0) throw usage('empty key');
  }
  decrypt(data: Uint8Array): void {
    data.set(ecb(false, this.key, data));
  }
  encrypt(data: Uint8Array): void {
    data.set(ecb(true, this.key, data));
  }
}
