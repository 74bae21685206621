import { Overlay } from '../../block/overlay.js';
import { type BlockSource, isWritable, readUpTo, type WritableSource } from '../../block/source.js';
import { Padded } from '../../block/window.js';
import { corrupt, GuestError, hex } from '../../core/errors.js';
import { latin1 } from '../../core/text.js';
import type { Image, OpenContext } from '../format.js';
import { grow, MappedImage, WritableMappedImage } from '../mapped.js';
import { type Headers, readHeaders, readRegions, writeHeader } from './header.js';
import { VhdxMapping } from './image.js';
import { type Replay, readLog } from './log.js';
import { type Metadata, readMetadata } from './metadata.js';
import { FILE_ID } from './structs.js';

/** What a replay may add: writers log a block or two at a time, and a block has 256 MiB at most. */
const MAX_GROWTH = 1 << 30;

export function openVhdx(file: BlockSource, context: OpenContext): Image {
  if (latin1(readUpTo(file, 0, 8)) !== FILE_ID) throw new GuestError('wrong-format', `${file.label}: no "${FILE_ID}" signature`);
  let headers = readHeaders(file);
  const write = context.writable && isWritable(file);
  const replay = readLog(file, headers);
  let source = file;
  if (replay !== undefined) {
    if (file.size < replay.flushedSize)
      throw corrupt(
        `${file.label}: the file is truncated: size ${hex(file.size)}, the log was written when it had ${hex(replay.flushedSize)}`,
      );
    const end = Math.max(replay.lastSize, endOf(replay));
    if (end > file.size + MAX_GROWTH)
      throw corrupt(
        `${file.label}: the log makes the file grow from ${hex(file.size)} to ${hex(end)} (by at most ${hex(MAX_GROWTH)})`,
      );
    if (write) headers = replayToFile(file, headers, replay);
    else source = replayInMemory(file, replay);
  }
  try {
    const regions = readRegions(source);
    const metadata = readMetadata(source, regions.metadata);
    if (metadata.hasParent && context.writable)
      throw new GuestError('unsupported', `${file.label}: a differencing VHDX can be read, not written (convert it first)`);
    const parent = metadata.hasParent && context.noBacking !== true ? openParent(file.label, metadata, context) : undefined;
    const mapping = new VhdxMapping(source, metadata, regions, headers, parent, {
      replayed: replay !== undefined,
      inMemory: source !== file,
    });
    return write ? new WritableMappedImage(mapping) : new MappedImage(mapping);
  } catch (e) {
    if (source !== file) source.close();
    throw e;
  }
}

function replayInMemory(file: BlockSource, replay: Replay): BlockSource {
  // What a change past the end needs is there as zeroes first; the file itself is never touched.
  const end = Math.max(file.size, replay.lastSize, endOf(replay));
  const overlay = new Overlay(end > file.size ? new Padded(file, end) : file, { maxBytes: 1 << 30 });
  for (const c of replay.changes)
    if (c.kind === 'data') overlay.write(c.bytes, c.offset);
    else overlay.zero(c.offset, c.length);
  return overlay;
}

function endOf(replay: Replay): number {
  let end = 0;
  for (const c of replay.changes) end = Math.max(end, c.offset + (c.kind === 'data' ? c.bytes.length : c.length));
  if (!Number.isSafeInteger(end)) throw corrupt(`VHDX log entry writes at ${hex(end)}`);
  return end;
}

/** Applies the log, and only then, with all of it on stable storage, lets the header forget it. */
function replayToFile(file: WritableSource, headers: Headers, replay: Replay): Headers {
  if (endOf(replay) > Math.max(file.size, replay.lastSize))
    throw corrupt(`${file.label}: the log writes at ${hex(endOf(replay))}, past the end it states (${hex(replay.lastSize)})`);
  if (replay.lastSize > file.size) grow(file, replay.lastSize);
  for (const c of replay.changes)
    if (c.kind === 'data') file.write(c.bytes, c.offset);
    else file.zero(c.offset, c.length);
  file.flush();
  return writeHeader(file, headers, { logGuid: new Uint8Array(16) });
}

/** Absolute Windows paths mean nothing here: their last part is tried beside the image. */
function openParent(label: string, metadata: Metadata, context: OpenContext): BlockSource {
  const posix = (s: string) => s.replaceAll('\\', '/').replace(/^(\.\/)+/, '');
  const last = (s: string) => posix(s).replace(/^.*\//, '');
  const get = (key: string) => metadata.parent.get(key) ?? '';
  const relative = get('relative_path');
  const names = [
    ...new Set(
      [posix(relative), last(relative), last(get('absolute_win32_path')), last(get('volume_path'))].filter((n) => n !== ''),
    ),
  ];
  const linkages = ['parent_linkage', 'parent_linkage2']
    .map((k) => get(k).replace(/[{}]/g, '').toUpperCase())
    .filter((g) => g !== '');
  let missing: unknown;
  for (const name of names) {
    let parent: BlockSource;
    try {
      parent = context.openReference({ role: 'backing', name, format: 'vhdx' });
    } catch (e) {
      if (!(e instanceof GuestError && e.code === 'not-found')) throw e;
      missing ??= e;
      continue;
    }
    const mapping = parent instanceof MappedImage ? parent.mapping : undefined;
    if (!(mapping instanceof VhdxMapping) || linkages.length === 0 || linkages.includes(mapping.dataWriteGuid)) return parent;
    parent.close();
    throw corrupt(
      `${label}: parent "${name}" has data write id ${mapping.dataWriteGuid}, expected ${linkages[0]} (it was changed after this disk was made)`,
    );
  }
  throw new GuestError(
    'not-found',
    names.length === 0
      ? `${label}: the parent locator names no file`
      : `${label}: parent not found (tried ${names.map((n) => `"${n}"`).join(', ')})`,
    {},
    missing,
  );
}
