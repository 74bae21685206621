/** One installed package of a guest, whatever database it comes from. */
export interface Package {
  /** "deb", "rpm", "apk", "pacman", "ebuild": the database's kind. */
  readonly format: PackageFormat;
  /** As the package manager prints it; "category/name" for an ebuild. */
  readonly name: string;
  readonly epoch: number;
  readonly version: string;
  /** Distribution's revision: after the last dash of a Debian or pacman version, rpm's Release, "r1" of apk; may be empty. */
  readonly release: string;
  readonly arch: string;
  readonly sourcePackage?: string;
  /** Version (with its release) of the source package where the database names it. */
  readonly sourceVersion?: string;
  readonly summary?: string;
  readonly description?: string;
  /** Maintainer or vendor. */
  readonly publisher?: string;
  readonly url?: string;
  /** As the database writes it: an SPDX expression, or the distribution's own words. */
  readonly license?: string;
  /** Installed size in bytes. */
  readonly installedSize?: number;
  /** Seconds since the epoch. */
  readonly installedAt?: number;
  /** Repository it came from, where that is recorded. */
  readonly repository?: string;
  /** Gentoo's SLOT. */
  readonly slot?: string;
}
export type PackageFormat =
  | 'deb'
  | 'rpm'
  | 'apk'
  | 'pacman'
  | 'ebuild'
  | 'xbps'
  | 'opkg'
  | 'slackware'
  | 'flatpak'
  | 'snap'
  | 'pisi'
  | 'pkgsrc';

/** An object without its undefined members, which optional fields must not have. */
export function present<T extends object>(o: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  for (const k of Object.keys(o) as (keyof T)[]) if (o[k] === undefined) delete o[k];
  return o as { [K in keyof T]: Exclude<T[K], undefined> };
}
