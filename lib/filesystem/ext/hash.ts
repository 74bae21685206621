/** Hashes of names in indexed directories: legacy, half MD4 and TEA, each over signed or unsigned characters. */
export interface NameHash {
  readonly major: number;
  readonly minor: number;
}

export const HASH = { legacy: 0, halfMd4: 1, tea: 2, unsigned: 3, siphash: 6 } as const;
const EOF_HASH = 0xfffffffe;

/** `version` as a directory's root block gives it, 3 added for unsigned characters; undefined for those we cannot compute. */
export function nameHash(name: Uint8Array, version: number, seed: Uint32Array): NameHash | undefined {
  const signed = version < HASH.unsigned;
  const kind = version % HASH.unsigned;
  if (version >= HASH.siphash) return undefined;
  if (kind === HASH.legacy) return { major: finish(legacy(name, signed)), minor: 0 };
  const state = seed.some((w) => w !== 0) ? seed.slice() : Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  const words = kind === HASH.halfMd4 ? 8 : 4;
  const chunk = new Uint32Array(words);
  for (let at = 0; at < name.length; at += words * 4) {
    fill(chunk, name, at, signed);
    if (words === 8) halfMd4(state, chunk);
    else tea(state, chunk);
  }
  return words === 8 ? { major: finish(state[1]!), minor: state[2]! } : { major: finish(state[0]!), minor: state[1]! };
}

/** The lowest bit marks a collision that goes on in the next block, and the largest value means the end. */
const finish = (h: number): number => {
  const even = (h & ~1) >>> 0;
  return even === EOF_HASH ? EOF_HASH - 2 : even;
};

function legacy(name: Uint8Array, signed: boolean): number {
  let h0 = 0x12a3fe2d;
  let h1 = 0x37abe8f9;
  for (const c of name) {
    const byte = signed ? (c << 24) >> 24 : c;
    let h = (h1 + (h0 ^ Math.imul(byte, 7152373))) >>> 0;
    if (h & 0x80000000) h = (h - 0x7fffffff) >>> 0;
    h1 = h0;
    h0 = h;
  }
  return (h0 << 1) >>> 0;
}

/** The name's bytes from `at` as big-endian words; what is missing is filled with the length that was left. */
function fill(into: Uint32Array, name: Uint8Array, at: number, signed: boolean): void {
  const left = name.length - at;
  const pad = Math.imul(left & 255, 0x01010101) | ((left >>> 8) * 0x01000100);
  const n = Math.min(left, into.length * 4);
  let word = pad;
  let w = 0;
  for (let i = 0; i < n; i++) {
    const c = name[at + i]!;
    word = ((signed ? (c << 24) >> 24 : c) + (word << 8)) | 0;
    if (i % 4 === 3) {
      into[w++] = word;
      word = pad;
    }
  }
  if (w < into.length) into[w++] = word;
  while (w < into.length) into[w++] = pad;
}

const rotate = (x: number, n: number) => (x << n) | (x >>> (32 - n));
/** Which word each of the eight steps of a round takes, its rotations, and the round's constant. */
const ROUNDS = [
  { order: [0, 1, 2, 3, 4, 5, 6, 7], turn: [3, 7, 11, 19], add: 0 },
  { order: [1, 3, 5, 7, 0, 2, 4, 6], turn: [3, 5, 9, 13], add: 0x5a827999 },
  { order: [3, 7, 2, 6, 1, 5, 0, 4], turn: [3, 9, 11, 15], add: 0x6ed9eba1 },
] as const;

function halfMd4(state: Uint32Array, words: Uint32Array): void {
  let [a, b, c, d] = [state[0]! | 0, state[1]! | 0, state[2]! | 0, state[3]! | 0];
  for (let r = 0; r < 3; r++) {
    const { order, turn, add } = ROUNDS[r]!;
    for (let i = 0; i < 8; i++) {
      const f = r === 0 ? d ^ (b & (c ^ d)) : r === 1 ? ((b & c) + ((b ^ c) & d)) | 0 : b ^ c ^ d;
      const mixed = rotate((a + f + words[order[i]!]! + add) | 0, turn[i % 4]!);
      a = d;
      d = c;
      c = b;
      b = mixed;
    }
  }
  state[0]! += a;
  state[1]! += b;
  state[2]! += c;
  state[3]! += d;
}

function tea(state: Uint32Array, words: Uint32Array): void {
  let x = state[0]! | 0;
  let y = state[1]! | 0;
  let sum = 0;
  for (let i = 0; i < 16; i++) {
    sum = (sum + 0x9e3779b9) | 0;
    x = (x + ((((y << 4) + words[0]!) | 0) ^ ((y + sum) | 0) ^ (((y >>> 5) + words[1]!) | 0))) | 0;
    y = (y + ((((x << 4) + words[2]!) | 0) ^ ((x + sum) | 0) ^ (((x >>> 5) + words[3]!) | 0))) | 0;
  }
  state[0]! += x;
  state[1]! += y;
}
