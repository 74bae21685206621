/**
 * XTS tweaks (IEEE 1619): the exclusive-or mask for a run of sectors.  One AES call makes the first tweak of every
 * sector; the others are products with x in GF(2^128), made here.
 */

/** Fills `mask` (as many 16-byte blocks as the data) from the encrypted sector numbers in `first`, 16 bytes a sector. */
export function xtsMask(mask: Uint32Array, first: Uint32Array, blocksPerSector: number): void {
  let m = 0;
  for (let f = 0; f < first.length; f += 4) {
    let a = first[f]!;
    let b = first[f + 1]!;
    let c = first[f + 2]!;
    let d = first[f + 3]!;
    for (let k = 0; k < blocksPerSector; k++) {
      mask[m] = a;
      mask[m + 1] = b;
      mask[m + 2] = c;
      mask[m + 3] = d;
      m += 4;
      const carry = d >>> 31;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ (carry * 0x87);
    }
  }
}

export function xorInto(target: Uint32Array, mask: Uint32Array, words: number): void {
  for (let i = 0; i < words; i++) target[i] = target[i]! ^ mask[i]!;
}
