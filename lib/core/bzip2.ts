import { corrupt } from './errors.js';

/**
 * bzip2 decompression (the format's reference description by J. Tsai, "bzip2 format specification").  Whole buffers,
 * at most `maxBytes` out; every table length and pointer is checked.
 */
export function bunzip2(b: Uint8Array, maxBytes: number): Uint8Array {
  const bits = new BitReader(b);
  const parts: Uint8Array[] = [];
  let total = 0;
  // Concatenated streams make one file, as bzip2 -d treats them.
  while (bits.left >= 32) {
    if (bits.take(16) !== 0x425a || bits.take(8) !== 0x68) {
      if (parts.length > 0) break;
      throw corrupt('bzip2 data: no "BZh" signature');
    }
    const level = bits.take(8) - 0x30;
    if (level < 1 || level > 9) throw corrupt(`bzip2 data: block size digit ${level} is not 1 to 9`);
    for (;;) {
      const hi = bits.take(24);
      const lo = bits.take(24);
      if (hi === 0x177245 && lo === 0x385090) break;
      if (hi !== 0x314159 || lo !== 0x265359) throw corrupt('bzip2 data: bad block signature');
      const block = readBlock(bits, level * 100_000, maxBytes - total);
      total += block.length;
      parts.push(block);
    }
    bits.take(32);
    bits.alignToByte();
  }
  const out = new Uint8Array(total);
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

class BitReader {
  #pos = 0;
  constructor(private readonly b: Uint8Array) {}
  get left(): number {
    return this.b.length * 8 - this.#pos;
  }
  take(n: number): number {
    if (this.left < n) throw corrupt('bzip2 data ends early');
    let v = 0;
    while (n > 0) {
      const bit = this.#pos & 7;
      const k = Math.min(n, 8 - bit);
      v = v * 2 ** k + ((this.b[this.#pos >> 3]! >> (8 - bit - k)) & ((1 << k) - 1));
      this.#pos += k;
      n -= k;
    }
    return v;
  }
  bit(): number {
    const p = this.#pos++;
    const c = this.b[p >> 3];
    if (c === undefined) throw corrupt('bzip2 data ends early');
    return (c >> (7 - (p & 7))) & 1;
  }
  alignToByte(): void {
    this.#pos = (this.#pos + 7) & ~7;
  }
}

interface Code {
  readonly min: number;
  readonly limit: Int32Array;
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
}

function codeOf(lengths: Uint8Array): Code {
  const limit = new Int32Array(22).fill(-1);
  const base = new Int32Array(22);
  const symbols = new Uint16Array(lengths.length);
  let min = 21;
  let code = 0;
  let index = 0;
  for (let len = 1; len <= 20; len++) {
    base[len] = index - code;
    for (let s = 0; s < lengths.length; s++)
      if (lengths[s] === len) {
        symbols[index++] = s;
        code++;
        if (len < min) min = len;
      }
    limit[len] = code - 1;
    code <<= 1;
  }
  return { min, limit, base, symbols };
}

function decodeSymbol(bits: BitReader, c: Code): number {
  let code = c.min <= 20 ? bits.take(c.min) : 0;
  for (let len = c.min; len <= 20; len++) {
    if (code <= c.limit[len]!) {
      const s = c.symbols[code + c.base[len]!];
      if (s === undefined) break;
      return s;
    }
    code = (code << 1) | bits.bit();
  }
  throw corrupt('bzip2 data: bad Huffman code');
}

function readBlock(bits: BitReader, blockSize: number, room: number): Uint8Array {
  bits.take(32); // block CRC: the callers' formats carry checksums of their own
  if (bits.bit()) throw corrupt('bzip2 data: randomised blocks are not supported (bzip2 0.9.0 and older)');
  const origin = bits.take(24);
  const used: number[] = [];
  const ranges = bits.take(16);
  for (let i = 0; i < 16; i++)
    if (ranges & (0x8000 >> i)) {
      const set = bits.take(16);
      for (let j = 0; j < 16; j++) if (set & (0x8000 >> j)) used.push(i * 16 + j);
    }
  if (used.length === 0) throw corrupt('bzip2 data: a block that uses no symbols');
  const groups = bits.take(3);
  const selectorCount = bits.take(15);
  if (groups < 2 || groups > 6 || selectorCount < 1) throw corrupt(`bzip2 data: ${groups} tables, ${selectorCount} selectors`);
  const order = Array.from({ length: groups }, (_, i) => i);
  const selectors = new Uint8Array(selectorCount);
  for (let i = 0; i < selectorCount; i++) {
    let j = 0;
    while (bits.bit()) if (++j >= groups) throw corrupt('bzip2 data: bad selector');
    const [g] = order.splice(j, 1);
    order.unshift(g!);
    selectors[i] = g!;
  }
  const symbols = used.length + 2;
  const codes: Code[] = [];
  for (let g = 0; g < groups; g++) {
    const lengths = new Uint8Array(symbols);
    let len = bits.take(5);
    for (let s = 0; s < symbols; s++) {
      for (;;) {
        if (len < 1 || len > 20) throw corrupt(`bzip2 data: code length ${len}`);
        if (!bits.bit()) break;
        len += bits.bit() ? -1 : 1;
      }
      lengths[s] = len;
    }
    codes.push(codeOf(lengths));
  }
  // Move-to-front and run-length decoding into the last column of the Burrows-Wheeler matrix.
  const mtf = Uint8Array.from(used);
  const column = new Uint32Array(blockSize);
  const counts = new Uint32Array(256);
  let n = 0;
  let run = 0;
  let weight = 1;
  let group = 0;
  let inGroup = 0;
  let code = codes[selectors[0]!]!;
  const flushRun = () => {
    if (run === 0) return;
    if (n + run > blockSize) throw corrupt('bzip2 data: a run leaves the block');
    column.fill(mtf[0]!, n, n + run);
    counts[mtf[0]!]! += run;
    n += run;
    run = 0;
    weight = 1;
  };
  for (;;) {
    if (inGroup === 50) {
      inGroup = 0;
      if (++group >= selectorCount) throw corrupt('bzip2 data: selectors end early');
      code = codes[selectors[group]!]!;
    }
    inGroup++;
    const s = decodeSymbol(bits, code);
    if (s < 2) {
      run += weight << s;
      weight <<= 1;
      if (run > blockSize) throw corrupt('bzip2 data: a run leaves the block');
      continue;
    }
    flushRun();
    if (s === symbols - 1) break;
    const at = s - 1;
    const v = mtf[at]!;
    mtf.copyWithin(1, 0, at);
    mtf[0] = v;
    if (n >= blockSize) throw corrupt('bzip2 data: a block is too long');
    column[n++] = v;
    counts[v]!++;
  }
  if (origin >= n) throw corrupt(`bzip2 data: origin ${origin} of ${n}`);
  let sum = 0;
  const starts = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    starts[i] = sum;
    sum += counts[i]!;
  }
  for (let i = 0; i < n; i++) column[starts[column[i]! & 255]!++]! |= i << 8;
  // Walk the matrix; four equal bytes are followed by a count of further ones.
  let out = new Uint8Array(Math.min(room, n * 2 + 1024));
  let o = 0;
  const put = (v: number, times: number) => {
    if (o + times > out.length) {
      if (o + times > room) throw corrupt('bzip2 data: more bytes than allowed');
      const bigger = new Uint8Array(Math.min(room, Math.max(out.length * 2, o + times)));
      bigger.set(out);
      out = bigger;
    }
    out.fill(v, o, o + times);
    o += times;
  };
  let pos = column[origin]! >>> 8;
  let same = 0;
  let last = -1;
  for (let i = 0; i < n; i++) {
    const entry = column[pos]!;
    const v = entry & 255;
    pos = entry >>> 8;
    if (same === 4) {
      put(last, v);
      same = 0;
      last = -1;
      continue;
    }
    same = v === last ? same + 1 : 1;
    last = v;
    put(v, 1);
  }
  return out.subarray(0, o);
}
