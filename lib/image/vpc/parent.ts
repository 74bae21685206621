import { type BlockSource, readAt } from '../../block/source.js';
import { equalBytes, uuidText } from '../../core/bytes.js';
import { corrupt, GuestError } from '../../core/errors.js';
import { latin1, utf8, utf16 } from '../../core/text.js';
import type { OpenContext } from '../format.js';
import { LOCATORS, ParentLocator, platform } from './structs.js';

const MAX_LOCATOR = 65536;

/** Where the parent may be, best guess first.  Absolute Windows paths mean nothing here: their last part is tried beside the image. */
export function parentNames(file: BlockSource, header: { parentName: Uint8Array; locators: Uint8Array }): string[] {
  const relative: string[] = [];
  const absolute: string[] = [];
  for (let i = 0; i < LOCATORS; i++) {
    const l = ParentLocator.at(header.locators, i * ParentLocator.size);
    if (l.platform === 0 || l.dataLength === 0) continue;
    if (l.dataLength > MAX_LOCATOR)
      throw corrupt(`${file.label}: parent locator ${i} has ${l.dataLength} bytes (at most ${MAX_LOCATOR})`);
    const data = readAt(file, l.dataOffset, l.dataLength);
    if (l.platform === platform.w2ru) relative.push(utf16(data));
    else if (l.platform === platform.wi2r) relative.push(latin1(data).replace(/\0.*$/s, ''));
    else if (l.platform === platform.w2ku) absolute.push(utf16(data));
    else if (l.platform === platform.wi2k) absolute.push(latin1(data).replace(/\0.*$/s, ''));
    else if (l.platform === platform.macX) absolute.push(decodeUrl(utf8(data).replace(/\0.*$/s, '')));
  }
  const swapped = Uint8Array.from(header.parentName, (_x, i) => header.parentName[i ^ 1]!);
  const names = [...relative.map(toPosix), ...[...absolute, utf16(swapped)].map((n) => toPosix(n).replace(/^.*\//, ''))];
  return [...new Set(names.filter((n) => n !== ''))];
}

function decodeUrl(url: string): string {
  try {
    return decodeURIComponent(url);
  } catch {
    return url;
  }
}
const toPosix = (name: string) => name.replaceAll('\\', '/').replace(/^(\.\/)+/, '');

/** The first of `names` that is there; its unique id must be the one this image was made over. */
export function openParent(
  file: BlockSource,
  names: readonly string[],
  uniqueId: Uint8Array,
  context: OpenContext,
  idOf: (parent: BlockSource) => Uint8Array | undefined,
): BlockSource {
  let missing: unknown;
  for (const name of names) {
    let parent: BlockSource;
    try {
      parent = context.openReference({ role: 'backing', name, format: 'vpc' });
    } catch (e) {
      if (!(e instanceof GuestError && e.code === 'not-found')) throw e;
      missing ??= e;
      continue;
    }
    const id = idOf(parent);
    if (id === undefined || equalBytes(id, uniqueId)) return parent;
    parent.close();
    throw corrupt(
      `${file.label}: parent "${name}" has unique id ${uuidText(id)}, expected ${uuidText(uniqueId)} (it is not the disk this one was made over)`,
    );
  }
  throw new GuestError(
    'not-found',
    names.length === 0
      ? `${file.label}: a differencing disk that names no parent`
      : `${file.label}: parent not found (tried ${names.map((n) => `"${n}"`).join(', ')})`,
    {},
    missing,
  );
}
