/** The public API of guestwright.  Tools use this and nothing below it. */

export { codecAddon, hasCodec } from './addon/codec.js';
export { hasKvmAddon } from './addon/kvm.js';
export { addonState, loadTarget, packageRoot } from './addon/load.js';
export { hasSysio } from './addon/sysio.js';
export type { Package } from './artifact/package.js';
export { createFile, openFile, openFileWritable } from './block/file.js';
export { HttpSource } from './block/http.js';
export { MemorySource } from './block/memory.js';
export { type NbdOptions, NbdSource, openNbd, WritableNbdSource } from './block/nbd.js';
export { listNbdExports } from './block/nbd-connection.js';
export type { ListedExport } from './block/nbd-negotiate.js';
export { formatNbdUri, isNbdUri, type NbdTarget, parseNbdUri } from './block/nbd-uri.js';
export { Overlay } from './block/overlay.js';
export * from './block/source.js';
export { crcOfStream } from './core/cksum.js';
export { nativeZstd } from './core/codec.js';
export * from './core/errors.js';
export { debug, setLogSink } from './core/log.js';
export { humanSize, parseSize } from './core/size.js';
export { decodeName, encodeName } from './core/text.js';
export { compareVersions } from './core/version.js';
export * from './export/nbd/index.js';
export * from './filesystem/driver.js';
export { type Place, readNode, Tree, type WalkStep } from './filesystem/walk.js';
export { besideImage, createImage } from './image/create.js';
export type * from './image/format.js';
export { type OpenImageOptions, openImage } from './image/open.js';
export { Qcow2Image, WritableQcow2Image } from './image/qcow2/index.js';
export { preallocate } from './image/raw/index.js';
export { findFormat, formatByName, formats, probeFormat } from './image/registry.js';
export { applications, type Inventory, packageInventory } from './inspect/applications.js';
export { type GuestDetails, guestDetails } from './inspect/details.js';
export { guestIcon } from './inspect/icon.js';
export { guestTree, inspect } from './inspect/index.js';
export type { GuestOs, Mountpoint } from './inspect/types.js';
export { CopyOut, type CopyOutOptions } from './ops/copy-out.js';
export { type Difference, type DiffOptions, diffTrees, type Side } from './ops/diff/index.js';
export { type CommitOptions, commit } from './ops/img/commit.js';
export { type Comparison, compareImages } from './ops/img/compare.js';
export { type ConvertOptions, convert, openSnapshotOf } from './ops/img/convert.js';
export { type ChainInfo, imageChain } from './ops/img/info.js';
export { type MapEntry, mapImage } from './ops/img/map.js';
export { type Measurement, measure } from './ops/img/measure.js';
export { flattenJson, onOff, parseOptions } from './ops/img/options.js';
export { StagedOutput } from './ops/img/output.js';
export { type RebaseOptions, rebase } from './ops/img/rebase.js';
export { Secrets } from './ops/img/secrets.js';
export { type ImageSpec, openSpec, openSpecWritable, parseImageSpec, type SpecOptions } from './ops/img/spec.js';
export {
  type Boot,
  formatRecord,
  GuestLog,
  isoTime,
  LOG_FORMATS,
  type LogFilter,
  type LogFormat,
  type LogPosition,
  type LogRecord,
  parsePriorities,
  parseWhen,
} from './ops/log/index.js';
export { type Bill, type BillOptions, type BillSystem, billSystem, cycloneDx, spdx } from './ops/sbom/index.js';
export { type PackOptions, packTree } from './ops/tar/pack.js';
export { Storage, type StorageNode } from './storage/index.js';
export { type DiskSpec, openStorage } from './storage/open.js';
export { type KvmState, kvmProbe, percent } from './vm/kvm-probe.js';
export type { KeyRing } from './volume/manager.js';
