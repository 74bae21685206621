/** One installed package of a guest, whatever database it comes from. */
export interface Package {
  /** "deb", "rpm", "apk", "pacman", "ebuild": the database's kind. */
  readonly format: PackageFormat;
  readonly name: string;
  readonly epoch: number;
  readonly version: string;
  /** Distribution's revision: after the last dash of a Debian or pacman version, rpm's Release, "r1" of apk; may be empty. */
  readonly release: string;
  readonly arch: string;
  readonly sourcePackage?: string;
  readonly summary?: string;
  readonly description?: string;
  /** Maintainer or vendor. */
  readonly publisher?: string;
  readonly url?: string;
  readonly license?: string;
  /** Installed size in bytes. */
  readonly installedSize?: number;
  /** Seconds since the epoch. */
  readonly installedAt?: number;
}
export type PackageFormat = 'deb' | 'rpm' | 'apk' | 'pacman' | 'ebuild' | 'xbps' | 'pisi' | 'pkgsrc';
