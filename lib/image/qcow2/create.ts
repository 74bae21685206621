import { isWritable, type ResizableSource } from '../../block/source.js';
import { WritableWindow } from '../../block/window.js';
import { GuestError, unsupported, usage } from '../../core/errors.js';
import { parseSize } from '../../core/size.js';
import { createLuks1, luks1HeaderBytes } from '../../crypto/luks1.js';
import type { CreateContext, CreateOptionInfo, CreateOptions } from '../format.js';
import { featureNameTable, type Header, setExtension, setTextExtension } from './header.js';
import { rebuildRefcounts } from './rebuild.js';
import type { Preallocation } from './resize.js';
import * as S from './structs.js';
import { WritableQcow2Image } from './writable.js';

export const createOptions: readonly CreateOptionInfo[] = [
  { name: 'size', type: 'size', help: 'virtual disk size' },
  { name: 'compat', type: 'string', help: 'format version: v2 (0.10) or v3 (1.1)', values: ['0.10', 'v2', '1.1', 'v3'] },
  { name: 'backing_file', type: 'string', help: 'file name of the image below' },
  { name: 'backing_fmt', type: 'string', help: 'format of the image below' },
  { name: 'cluster_size', type: 'size', help: 'size of a cluster: 512 to 2M' },
  { name: 'preallocation', type: 'string', help: 'space reserved at once', values: ['off', 'metadata', 'falloc', 'full'] },
  { name: 'lazy_refcounts', type: 'on/off', help: 'postpone refcount updates' },
  { name: 'refcount_bits', type: 'number', help: 'width of a refcount in bits: 1 to 64' },
  { name: 'compression_type', type: 'string', help: 'compression of clusters', values: ['zlib', 'zstd'] },
  { name: 'extended_l2', type: 'on/off', help: 'extended L2 entries: 32 subclusters a cluster' },
  { name: 'data_file', type: 'string', help: 'file name of an external data file' },
  { name: 'data_file_raw', type: 'on/off', help: 'the external data file stays valid as a raw image' },
  { name: 'encrypt.format', type: 'string', help: 'encryption of the contents', values: ['luks'] },
  { name: 'encrypt.key-secret', type: 'string', help: 'id of the secret with the passphrase' },
  { name: 'encrypt.cipher-alg', type: 'string', help: 'cipher', values: ['aes-128', 'aes-192', 'aes-256'] },
  { name: 'encrypt.cipher-mode', type: 'string', help: 'cipher mode', values: ['xts', 'cbc'] },
  { name: 'encrypt.ivgen-alg', type: 'string', help: 'initial values', values: ['plain64', 'plain', 'essiv'] },
  { name: 'encrypt.ivgen-hash-alg', type: 'string', help: 'hash of essiv' },
  { name: 'encrypt.hash-alg', type: 'string', help: 'hash of the key derivation' },
  { name: 'encrypt.iter-time', type: 'number', help: 'milliseconds that one try of the passphrase takes' },
];

export function createQcow2(file: ResizableSource, options: CreateOptions, context: CreateContext): void {
  const set = { ...options.settings };
  for (const key of Object.keys(set))
    if (!createOptions.some((o) => o.name === key))
      throw usage(`qcow2 has no setting "${key}" (${createOptions.map((o) => o.name).join(', ')})`);
  const onOff = (key: string): boolean => {
    const v = set[key] ?? 'off';
    if (v !== 'on' && v !== 'off' && v !== 'true' && v !== 'false') throw usage(`${key}=${v}: "on" or "off" is expected`);
    return v === 'on' || v === 'true';
  };
  const compat = set['compat'] ?? '1.1';
  if (!['0.10', 'v2', '1.1', 'v3'].includes(compat)) throw usage(`compat=${compat}: v2 (0.10) or v3 (1.1) is expected`);
  const version = compat === '0.10' || compat === 'v2' ? 2 : 3;
  const extended = onOff('extended_l2');
  const clusterSize = set['cluster_size'] === undefined ? 65536 : parseSize(set['cluster_size'], 'cluster_size');
  const clusterBits = Math.log2(clusterSize);
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21)
    throw usage(`cluster_size ${clusterSize} is not a power of two from 512 to 2M`);
  const bits = Number(set['refcount_bits'] ?? '16');
  const refcountOrder = Math.log2(bits);
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6)
    throw usage(`refcount_bits ${bits} is not a power of two from 1 to 64`);
  const compression = set['compression_type'] ?? 'zlib';
  if (compression !== 'zlib' && compression !== 'zstd') throw usage(`compression_type=${compression}: zlib or zstd is expected`);
  const lazy = onOff('lazy_refcounts');
  const dataFile = set['data_file'];
  const rawData = onOff('data_file_raw');
  const size = Math.ceil(options.size / 512) * 512;
  const backing = options.backing;
  if (version === 2 && (extended || bits !== 16 || compression !== 'zlib' || lazy || dataFile !== undefined))
    throw usage('extended_l2, refcount_bits, compression_type, lazy_refcounts and data_file need compat=1.1');
  if (extended && clusterBits < 14) throw usage('extended_l2 needs clusters of 16 KiB or more');
  if (rawData && dataFile === undefined) throw usage('data_file_raw needs a data_file');
  if (rawData && backing !== undefined) throw usage('data_file_raw and a backing file exclude each other');
  let preallocation = (set['preallocation'] ?? 'off') as Preallocation;
  if (!['off', 'metadata', 'falloc', 'full'].includes(preallocation))
    throw usage(`preallocation=${preallocation}: off, metadata, falloc or full is expected`);
  if (backing !== undefined && preallocation !== 'off' && !extended)
    throw usage('preallocation and a backing file exclude each other');
  // A raw data file has its zeroes in place, so the map is made complete at once.
  if (rawData && preallocation === 'off') preallocation = 'metadata';
  const l2Entries = clusterSize / (extended ? 16 : 8);
  const l1Size = Math.ceil(size / (clusterSize * l2Entries));
  if (l1Size * 8 > S.MAX_L1_BYTES) throw usage(`a disk of ${size} bytes is too large for clusters of ${clusterSize} bytes`);

  const crypt = cryptOf(set);
  const l1Clusters = Math.max(1, Math.ceil((l1Size * 8) / clusterSize));
  const luksAt = 1 + l1Clusters;
  const luksBytes = crypt === undefined ? 0 : luks1HeaderBytes(crypt.keyBytes);
  const used = luksAt + Math.ceil(luksBytes / clusterSize);
  const h: Header = {
    version,
    clusterBits,
    size,
    cryptMethod: crypt === undefined ? 0 : 2,
    l1Size,
    l1Offset: clusterSize,
    refcountTableOffset: 0,
    refcountTableClusters: 0,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (dataFile === undefined ? 0n : S.INCOMPAT_DATA_FILE) |
      (compression === 'zstd' ? S.INCOMPAT_COMPRESSION : 0n) |
      (extended ? S.INCOMPAT_EXTENDED_L2 : 0n),
    compatible: lazy ? S.COMPAT_LAZY : 0n,
    autoclear: rawData ? S.AUTOCLEAR_RAW_DATA : 0n,
    refcountOrder,
    compressionType: compression === 'zstd' ? 1 : 0,
    backingName: backing?.name,
    extensions: [],
    extra: new Uint8Array(0),
  };
  setTextExtension(h, S.EXT_BACKING_FORMAT, backing?.format);
  setTextExtension(h, S.EXT_DATA_FILE, dataFile);
  if (version === 3) setExtension(h, S.EXT_FEATURE_NAMES, featureNameTable());
  if (crypt !== undefined)
    setExtension(h, S.EXT_CRYPT, S.CryptExtension.encode({ offset: luksAt * clusterSize, length: luksBytes }));

  file.resize(0);
  file.resize(used * clusterSize);
  if (crypt !== undefined) {
    const secret = context.secret?.();
    if (secret === undefined) throw new GuestError('needs-key', 'an encrypted image needs a passphrase (encrypt.key-secret)');
    createLuks1(new WritableWindow(file, luksAt * clusterSize, luksBytes), secret, crypt);
  }
  rebuildRefcounts(file, h, () => 1, used, refcountOrder, false);
  let data: ResizableSource | undefined;
  if (dataFile !== undefined) {
    data = context.createSibling(dataFile);
    data.resize(size);
  }
  if (preallocation !== 'off') preallocateNew(file, data, context, preallocation);
  data?.close();
}

function preallocateNew(
  file: ResizableSource,
  data: ResizableSource | undefined,
  context: CreateContext,
  mode: Preallocation,
): void {
  const image = new WritableQcow2Image(file, {
    writable: true,
    noBacking: true,
    openReference: () => {
      if (data === undefined || !isWritable(data)) throw new GuestError('internal', 'internal error: no data file was made');
      return data;
    },
    ...(context.secret === undefined ? {} : { secret: () => context.secret?.() }),
  });
  image.barriers = false;
  image.preallocate(mode);
  image.close();
}

/** Bytes that the LUKS header of an encrypted image takes; 0 for one that is not encrypted. */
export function encryptionHeaderBytes(settings: Readonly<Record<string, string>>): number {
  const crypt = cryptOf(settings);
  return crypt === undefined ? 0 : luks1HeaderBytes(crypt.keyBytes);
}

function cryptOf(set: Readonly<Record<string, string>>) {
  const format = set['encrypt.format'];
  if (format === undefined) return undefined;
  if (format !== 'luks') throw unsupported(`encrypt.format=${format} is not supported for new images (luks is)`);
  const alg = set['encrypt.cipher-alg'] ?? 'aes-256';
  const m = /^aes-(128|192|256)$/.exec(alg);
  if (m === null) throw unsupported(`encrypt.cipher-alg=${alg} is not supported (aes-128, aes-192, aes-256)`);
  const mode = set['encrypt.cipher-mode'] ?? 'xts';
  if (mode !== 'xts' && mode !== 'cbc') throw unsupported(`encrypt.cipher-mode=${mode} is not supported (xts, cbc)`);
  const ivgen = set['encrypt.ivgen-alg'] ?? 'plain64';
  if (!['plain64', 'plain', 'essiv'].includes(ivgen))
    throw unsupported(`encrypt.ivgen-alg=${ivgen} is not supported (plain64, plain, essiv)`);
  const iv = ivgen === 'essiv' ? `essiv:${set['encrypt.ivgen-hash-alg'] ?? 'sha256'}` : ivgen;
  const keyBytes = (Number(m[1]) / 8) * (mode === 'xts' ? 2 : 1);
  const iterMs = Number(set['encrypt.iter-time'] ?? '2000');
  if (!(iterMs > 0)) throw usage(`encrypt.iter-time=${set['encrypt.iter-time']}: milliseconds are expected`);
  return { cipher: 'aes', mode: `${mode}-${iv}`, hash: set['encrypt.hash-alg'] ?? 'sha256', keyBytes, iterMs };
}
