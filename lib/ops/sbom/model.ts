import type { Package } from '../../artifact/package.js';
import type { License } from './license.js';

/** What a bill of materials is made of, whatever its format. */
export interface Bill {
  /** The guest, for people: its image's file name or its domain's name. */
  readonly name: string;
  readonly systems: readonly BillSystem[];
}

export interface BillSystem {
  /** os-release's ID and VERSION_ID, or what stands in for them. */
  readonly id: string;
  readonly version: string;
  readonly prettyName: string;
  readonly arch?: string | undefined;
  readonly hostname?: string | undefined;
  readonly packages: readonly BillPackage[];
}

export interface BillPackage {
  readonly package: Package;
  /** Version as the package manager writes it, with epoch and release. */
  readonly version: string;
  readonly purl: string;
  readonly license?: License | undefined;
}

export interface BillOptions {
  /** Time of creation. */
  readonly created: Date;
  readonly toolVersion: string;
  /** "urn:uuid:…" for CycloneDX, a URI for SPDX; made from the contents when it is not given. */
  readonly serial?: string | undefined;
}
