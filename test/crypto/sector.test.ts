import { createCipheriv, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { pureSectorCipher, type SectorCipherSpec, sectorCipher, setNativeSectorCipher } from '../../lib/crypto/sector.js';

const tweak = (sector: number) => {
  const t = Buffer.alloc(16);
  t.writeBigUInt64LE(BigInt(sector));
  return t;
};

it("XTS over many sectors is OpenSSL's XTS sector by sector", () => {
  for (const keyBytes of [32, 64])
    for (const sectorSize of [512, 4096]) {
      const key = randomBytes(keyBytes);
      const plain = randomBytes(sectorSize * 37);
      const first = 2 ** 33 + 5;
      const expected = Buffer.concat(
        Array.from({ length: 37 }, (_, i) => {
          const c = createCipheriv(`aes-${keyBytes * 4}-xts`, key, tweak(first + i));
          return Buffer.concat([c.update(plain.subarray(i * sectorSize, (i + 1) * sectorSize)), c.final()]);
        }),
      );
      const data = new Uint8Array(plain);
      const cipher = pureSectorCipher({ cipher: 'aes', mode: 'xts-plain64', key, sectorSize });
      cipher.encrypt(data, first);
      expect(Buffer.compare(data, expected)).toBe(0);
      cipher.decrypt(data, first);
      expect(Buffer.compare(data, plain)).toBe(0);
    }
});

it('any sectors at any place come back, and pieces equal the whole', () => {
  const modes: readonly (readonly [string, number])[] = [
    ['xts-plain64', 64],
    ['xts-plain', 32],
    ['cbc-essiv:sha256', 32],
    ['cbc-plain64', 16],
    ['cbc-plain', 24],
    ['ecb', 32],
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...modes),
      fc.integer({ min: 1, max: 300 }),
      fc.nat(2 ** 31),
      ([mode, keyBytes], sectors, first) => {
        const cipher = pureSectorCipher({ cipher: 'aes', mode, key: randomBytes(keyBytes) });
        const plain = new Uint8Array(randomBytes(sectors * 512));
        const whole = plain.slice();
        cipher.encrypt(whole, first);
        const parts = plain.slice();
        const cut = Math.floor(sectors / 2);
        cipher.encrypt(parts.subarray(0, cut * 512), first);
        cipher.encrypt(parts.subarray(cut * 512), first + cut);
        expect(Buffer.compare(parts, whole)).toBe(0);
        cipher.decrypt(whole, first);
        expect(Buffer.compare(whole, plain)).toBe(0);
      },
    ),
    { numRuns: 60 },
  );
});

it('says which ciphers are not supported', () => {
  const make =
    (cipher: string, mode: string, n = 32) =>
    () =>
      pureSectorCipher({ cipher, mode, key: new Uint8Array(n) });
  expect(make('serpent', 'xts-plain64')).toThrow(/cipher "serpent-xts-plain64" is not supported/);
  expect(make('aes', 'lrw-benbi')).toThrow(/initial values "benbi"|mode "lrw-benbi"/);
  expect(make('aes', 'xts-plain64', 20)).toThrow(/key of 20 bytes/);
  expect(make('aes', 'cbc-essiv:nothing')).toThrow(/hash "nothing"/);
});

it('a registered native version is asked first and may decline', () => {
  const asked: SectorCipherSpec[] = [];
  setNativeSectorCipher((spec) => {
    asked.push(spec);
    return undefined;
  });
  const key = new Uint8Array(64);
  const data = new Uint8Array(512);
  sectorCipher({ cipher: 'aes', mode: 'xts-plain64', key }).encrypt(data, 0);
  setNativeSectorCipher(undefined);
  expect(asked).toHaveLength(1);
  expect(data.some((x) => x !== 0)).toBe(true);
});
