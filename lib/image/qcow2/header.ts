import { type BlockSource, readUpTo } from '../../block/source.js';
import { corrupt, GuestError, hex, unsupported } from '../../core/errors.js';
import { cString, decodeName, encodeName } from '../../core/text.js';
import * as S from './structs.js';

export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** A parsed header: plain data that the image changes and writes back whole. */
export interface Header {
  version: number;
  clusterBits: number;
  size: number;
  cryptMethod: number;
  l1Size: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  refcountOrder: number;
  compressionType: number;
  backingName: string | undefined;
  extensions: Extension[];
  /** Bytes of the header past the fields we know, kept as they are. */
  extra: Uint8Array;
}

export const extensionOf = (h: Header, type: number): Uint8Array | undefined => h.extensions.find((e) => e.type === type)?.data;
export const textExtension = (h: Header, type: number): string | undefined => {
  const data = extensionOf(h, type);
  return data === undefined || data.length === 0 ? undefined : cString(data);
};
export function setExtension(h: Header, type: number, data: Uint8Array | undefined): void {
  h.extensions = h.extensions.filter((e) => e.type !== type);
  if (data !== undefined) h.extensions.push({ type, data });
}
export const setTextExtension = (h: Header, type: number, text: string | undefined): void =>
  setExtension(h, type, text === undefined ? undefined : encodeName(text));

/** Reads and validates the header.  `lenient`: faults of the refcount table's position are left to `check`. */
export function readHeader(file: BlockSource, lenient: boolean): Header {
  const head = new Uint8Array(S.HeaderStruct.size);
  const present = readUpTo(file, 0, head.length);
  head.set(present);
  if (present.length < S.V2_LENGTH) throw corrupt(`the qcow2 header needs ${S.V2_LENGTH} bytes, the file has ${file.size}`);
  const v = S.HeaderStruct.at(head);
  if (v.magic !== S.MAGIC) throw new GuestError('wrong-format', 'no qcow2 signature');
  if (v.version !== 2 && v.version !== 3) throw unsupported(`qcow2 version ${v.version} is not supported (2 and 3 are)`);
  if (v.clusterBits < 9 || v.clusterBits > 21)
    throw unsupported(`cluster size of 2^${v.clusterBits} bytes is not supported (allowed: 2^9 to 2^21)`);
  const clusterSize = 2 ** v.clusterBits;
  let headerLength = S.V2_LENGTH;
  if (v.version === 3) {
    if (present.length < S.V3_LENGTH) throw corrupt(`the qcow2 version 3 header needs 104 bytes, the file has ${file.size}`);
    headerLength = v.headerLength;
    if (headerLength < S.V3_LENGTH || headerLength % 8 !== 0)
      throw corrupt(`header length ${headerLength} (at least 104, in steps of 8)`);
    if (headerLength > clusterSize) throw corrupt(`header length ${headerLength} exceeds the cluster size ${clusterSize}`);
  }
  const first = readUpTo(file, 0, clusterSize);
  if (first.length < headerLength) throw corrupt(`the header of ${headerLength} bytes is cut off (file size ${file.size})`);
  const v3 = v.version === 3;
  const backingOffset = v.backingOffset;
  if (backingOffset > clusterSize) throw corrupt(`backing file name at ${hex(backingOffset)} is outside the first cluster`);
  const h: Header = {
    version: v.version,
    clusterBits: v.clusterBits,
    size: v.size,
    cryptMethod: v.cryptMethod,
    l1Size: v.l1Size,
    l1Offset: v.l1Offset,
    refcountTableOffset: v.refcountTableOffset,
    refcountTableClusters: v.refcountTableClusters,
    snapshotCount: v.snapshotCount,
    snapshotsOffset: v.snapshotsOffset,
    incompatible: v3 ? v.incompatible : 0n,
    compatible: v3 ? v.compatible : 0n,
    autoclear: v3 ? v.autoclear : 0n,
    refcountOrder: v3 ? v.refcountOrder : 4,
    compressionType: headerLength > 104 ? v.compressionType : 0,
    backingName: undefined,
    extensions: readExtensions(first, headerLength, backingOffset === 0 ? first.length : Math.min(first.length, backingOffset)),
    extra: headerLength > S.FULL_LENGTH ? first.slice(S.FULL_LENGTH, headerLength) : new Uint8Array(0),
  };
  if (backingOffset !== 0 && v.backingSize !== 0) {
    const max = Math.min(S.MAX_BACKING_NAME, clusterSize - backingOffset);
    if (v.backingSize > max) throw corrupt(`backing file name of ${v.backingSize} bytes is too long (at most ${max})`);
    if (backingOffset + v.backingSize > first.length)
      throw corrupt(`backing file name at ${hex(backingOffset)} is past the end of the file`);
    h.backingName = decodeName(first.subarray(backingOffset, backingOffset + v.backingSize));
  }
  validate(h, lenient);
  return h;
}

function readExtensions(first: Uint8Array, start: number, end: number): Extension[] {
  const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
  const found: Extension[] = [];
  let at = start;
  while (at + 8 <= end) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === S.EXT_END) break;
    if (at + 8 + length > end)
      throw corrupt(`header extension ${hex(type)} of ${length} bytes at ${hex(at)} leaves the header area`);
    found.push({ type, data: first.slice(at + 8, at + 8 + length) });
    if (found.length > S.MAX_EXTENSIONS) throw corrupt(`more than ${S.MAX_EXTENSIONS} header extensions`);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

function validate(h: Header, lenient: boolean): void {
  const clusterSize = 2 ** h.clusterBits;
  const unknown = h.incompatible & ~S.INCOMPAT_KNOWN;
  if (unknown !== 0n) throw unsupported(`unknown qcow2 features: ${featureNames(h, unknown).join(', ')}`);
  if (h.cryptMethod > 2) throw unsupported(`encryption method ${h.cryptMethod} is not supported (0 none, 1 AES, 2 LUKS)`);
  if (h.refcountOrder > 6) throw corrupt(`refcount order ${h.refcountOrder} (at most 6: 64 bits)`);
  const compression = (h.incompatible & S.INCOMPAT_COMPRESSION) !== 0n;
  if (compression && h.compressionType === 0) throw corrupt('the compression type feature is set, but the type is zlib');
  if (!compression && h.compressionType !== 0) throw corrupt(`compression type ${h.compressionType} without its feature bit`);
  if (h.compressionType > 1) throw unsupported(`compression type ${h.compressionType} is not supported (0 zlib, 1 zstd)`);
  const extended = (h.incompatible & S.INCOMPAT_EXTENDED_L2) !== 0n;
  if (extended && h.clusterBits < 14)
    throw corrupt(`extended L2 entries need clusters of 16 KiB or more, not ${clusterSize} bytes`);
  const l2Entries = clusterSize / (extended ? 16 : 8);
  const needed = Math.ceil(h.size / (clusterSize * l2Entries));
  if (needed * 8 > S.MAX_L1_BYTES) throw corrupt(`virtual size ${hex(h.size)} is too large for clusters of ${clusterSize} bytes`);
  if (h.l1Size * 8 > S.MAX_L1_BYTES)
    throw corrupt(`L1 table of ${h.l1Size} entries is too large (at most ${S.MAX_L1_BYTES / 8})`);
  if (h.l1Size < needed)
    throw corrupt(`L1 table of ${h.l1Size} entries is too small for the virtual size (${needed} are needed)`);
  if (h.l1Offset % clusterSize !== 0)
    throw corrupt(`L1 table at ${hex(h.l1Offset)} is not aligned to clusters of ${clusterSize} bytes`);
  if (h.snapshotCount > S.MAX_SNAPSHOTS) throw corrupt(`${h.snapshotCount} snapshots (at most ${S.MAX_SNAPSHOTS})`);
  if (h.snapshotsOffset % clusterSize !== 0)
    throw corrupt(`snapshot table at ${hex(h.snapshotsOffset)} is not aligned to clusters`);
  const crypt = extensionOf(h, S.EXT_CRYPT);
  if (h.cryptMethod === 2 && (crypt === undefined || crypt.length < 16))
    throw corrupt('no LUKS header pointer in the header extensions');
  if (!lenient) {
    const fault = refcountTableFault(h);
    if (fault !== undefined) throw corrupt(fault);
  }
}

/** What is wrong with the refcount table's position; undefined when nothing is. */
export function refcountTableFault(h: Header): string | undefined {
  const clusterSize = 2 ** h.clusterBits;
  if (h.refcountTableClusters * clusterSize > S.MAX_REFCOUNT_TABLE_BYTES)
    return `refcount table of ${h.refcountTableClusters} clusters is too large (at most ${S.MAX_REFCOUNT_TABLE_BYTES} bytes)`;
  if (h.refcountTableClusters === 0) return 'the image has no refcount table';
  if (h.refcountTableOffset === 0 || h.refcountTableOffset % clusterSize !== 0)
    return `refcount table at ${hex(h.refcountTableOffset)} is not aligned to clusters of ${clusterSize} bytes`;
  return undefined;
}

/** Names of incompatible feature bits, from the image's own table where it has them. */
export function featureNames(h: Header, bits: bigint): string[] {
  const table = extensionOf(h, S.EXT_FEATURE_NAMES) ?? new Uint8Array(0);
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
    let name = `bit ${bit}`;
    for (let at = 0; at + 48 <= table.length; at += 48) {
      const f = S.FeatureName.at(table, at);
      if (f.kind === 0 && f.bit === bit) name = `"${cString(f.name)}"`;
    }
    names.push(name);
  }
  return names;
}

const FEATURES: readonly (readonly [number, number, string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
];

export function featureNameTable(): Uint8Array {
  const out = new Uint8Array(FEATURES.length * 48);
  FEATURES.forEach(([kind, bit, name], i) => {
    out[i * 48] = kind;
    out[i * 48 + 1] = bit;
    out.set(encodeName(name), i * 48 + 2);
  });
  return out;
}

/**
 * The header area, up to one cluster: written in one piece, so that a change of several fields cannot be torn by a crash
 * of this program.
 */
export function encodeHeader(h: Header): Uint8Array {
  const clusterSize = 2 ** h.clusterBits;
  const v3 = h.version === 3;
  const length = v3 ? S.FULL_LENGTH + h.extra.length : S.V2_LENGTH;
  const order = (t: number) =>
    t === S.EXT_BACKING_FORMAT ? 0 : t === S.EXT_DATA_FILE ? 1 : t === S.EXT_CRYPT ? 2 : t === S.EXT_FEATURE_NAMES ? 4 : 3;
  let extensions = h.extensions.filter((e) => v3 || e.type !== S.EXT_FEATURE_NAMES).sort((a, b) => order(a.type) - order(b.type));
  const name = h.backingName === undefined ? new Uint8Array(0) : encodeName(h.backingName);
  const total = () => length + extensions.reduce((n, e) => n + 8 + Math.ceil(e.data.length / 8) * 8, 0) + 8 + name.length;
  // 512-byte clusters have no room for the feature names next to the rest; they are only a courtesy.
  if (total() > clusterSize) extensions = extensions.filter((e) => e.type !== S.EXT_FEATURE_NAMES);
  if (total() > clusterSize || name.length > S.MAX_BACKING_NAME)
    throw new GuestError('usage', `the header with its backing file name needs ${total()} bytes, a cluster has ${clusterSize}`);
  const used = Math.min(clusterSize, Math.ceil(total() / 512) * 512);
  const out = new Uint8Array(Math.max(used, 512));
  const v = S.HeaderStruct.at(out);
  v.magic = S.MAGIC;
  v.version = h.version;
  v.clusterBits = h.clusterBits;
  v.size = h.size;
  v.cryptMethod = h.cryptMethod;
  v.l1Size = h.l1Size;
  v.l1Offset = h.l1Offset;
  v.refcountTableOffset = h.refcountTableOffset;
  v.refcountTableClusters = h.refcountTableClusters;
  v.snapshotCount = h.snapshotCount;
  v.snapshotsOffset = h.snapshotsOffset;
  if (v3) {
    v.incompatible = h.incompatible;
    v.compatible = h.compatible;
    v.autoclear = h.autoclear;
    v.refcountOrder = h.refcountOrder;
    v.headerLength = length;
    v.compressionType = h.compressionType;
    out.set(h.extra, S.FULL_LENGTH);
  }
  const view = new DataView(out.buffer);
  let at = length;
  for (const e of extensions) {
    view.setUint32(at, e.type);
    view.setUint32(at + 4, e.data.length);
    out.set(e.data, at + 8);
    at += 8 + Math.ceil(e.data.length / 8) * 8;
  }
  at += 8;
  if (name.length > 0) {
    v.backingOffset = at;
    v.backingSize = name.length;
    out.set(name, at);
  }
  return out;
}
