/**
 * Names and text.  File names are bytes; as strings they are UTF-8 where that is valid, and every byte that is not is
 * kept as a lone surrogate U+DC80–U+DCFF (the convention of Python's "surrogateescape"), so that a name read from disk
 * can be shown, put into a path, and still be found again.
 */
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf16le = new TextDecoder('utf-16le');

/** The string for a name's bytes; never throws, and `encodeName` gives the same bytes back. */
export function decodeName(b: Uint8Array): string {
  const n = b.length;
  if (n <= 64) {
    // Most names are short and ASCII: building the string beats a TextDecoder call.
    let ascii = true;
    for (let i = 0; i < n; i++)
      if (b[i]! >= 0x80) {
        ascii = false;
        break;
      }
    if (ascii) return String.fromCharCode.apply(null, b as unknown as number[]);
  }
  try {
    return strict.decode(b);
  } catch {
    return escapeInvalid(b);
  }
}

function escapeInvalid(b: Uint8Array): string {
  let out = '';
  for (let i = 0; i < b.length; ) {
    const c = b[i]!;
    const len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (len > 0 && i + len <= b.length) {
      try {
        out += strict.decode(b.subarray(i, i + len));
        i += len;
        continue;
      } catch {
        // falls through: this byte is kept alone
      }
    }
    out += String.fromCharCode(0xdc00 + c);
    i++;
  }
  return out;
}

const HAS_ESCAPE = /[\udc80-\udcff]/;
const encoder = new TextEncoder();

/** The bytes of a name: the inverse of `decodeName`. */
export function encodeName(s: string): Uint8Array {
  if (!HAS_ESCAPE.test(s)) return encoder.encode(s);
  const parts: number[] = [];
  for (let i = 0; i < s.length; i++) {
    const u = s.charCodeAt(i);
    if (u >= 0xd800 && u < 0xdc00 && i + 1 < s.length) {
      const v = s.charCodeAt(i + 1);
      if (v >= 0xdc00 && v < 0xe000) {
        parts.push(...encoder.encode(s.slice(i, i + 2)));
        i++;
        continue;
      }
    }
    if (u >= 0xdc80 && u <= 0xdcff) parts.push(u - 0xdc00);
    else parts.push(...encoder.encode(s[i]!));
  }
  return Uint8Array.from(parts);
}

/** True when the name came from bytes that are not UTF-8. */
export const hasInvalidBytes = (s: string) => HAS_ESCAPE.test(s) && !isWellFormed(s);
const isWellFormed = (s: string) => {
  try {
    encodeURIComponent(s);
    return true;
  } catch {
    return false;
  }
};

/** Text of a NUL-terminated or NUL-padded field. */
export function cString(b: Uint8Array): string {
  const end = b.indexOf(0);
  return decodeName(end < 0 ? b : b.subarray(0, end));
}

export const latin1 = (b: Uint8Array) => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('latin1');
export const utf8 = (b: Uint8Array) => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('utf8');

/** UTF-16LE up to the first NUL. */
export function utf16(b: Uint8Array): string {
  const s = utf16le.decode(b);
  const end = s.indexOf('\0');
  return end < 0 ? s : s.slice(0, end);
}
