import { corrupt } from '../../core/errors.js';
import { type Package, present } from '../package.js';
import { RpmHeader, Tag } from './header.js';

/** The package that an rpm database's header describes. */
export function rpmPackage(blob: Uint8Array): Package {
  const h = new RpmHeader(blob);
  const name = h.string(Tag.name);
  if (name === undefined || name === '') throw corrupt('rpm header without a name');
  const source = /^(.+)-([^-]+-[^-]+?)\.(?:no)?src\.rpm$/.exec(h.string(Tag.sourceRpm) ?? '');
  return present({
    format: 'rpm' as const,
    name,
    epoch: h.number(Tag.epoch) ?? 0,
    version: h.string(Tag.version) ?? '',
    release: h.string(Tag.release) ?? '',
    arch: h.string(Tag.arch) ?? '',
    sourcePackage: source?.[1],
    sourceVersion: source?.[2],
    summary: h.string(Tag.summary),
    description: h.string(Tag.description),
    publisher: h.string(Tag.vendor) ?? h.string(Tag.packager),
    url: h.string(Tag.url),
    license: h.string(Tag.license),
    installedSize: h.number(Tag.longSize) ?? h.number(Tag.size),
    installedAt: h.number(Tag.installTime),
  });
}
