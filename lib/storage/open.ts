import { HttpSource } from '../block/http.js';
import { openNbd } from '../block/nbd.js';
import { isNbdUri } from '../block/nbd-uri.js';
import { Window } from '../block/window.js';
import { debug } from '../core/log.js';
import type { Image } from '../image/format.js';
import { type OpenImageOptions, openImage, registerSourceOpener } from '../image/open.js';
import type { KeyRing } from '../volume/manager.js';
import { Storage } from './index.js';

/** Addresses that every layer above this one may give as the name of an image. */
registerSourceOpener((name) => (/^https?:\/\//i.test(name) ? new HttpSource(name) : undefined));
registerSourceOpener((name, writable) => (isNbdUri(name) ? openNbd(name, writable) : undefined));

export interface DiskSpec {
  /** A path, or an http(s) or nbd address. */
  readonly path: string;
  /** Forces the image format; without it the contents tell. */
  readonly format?: string;
  /** Logical sector size that the guest saw: 512 or 4096. */
  readonly sectorSize?: number;
}

/** Opens the images, read-only, and walks what is on them.  `forceShare`: also while a running VM has them open. */
export function openStorage(
  disks: readonly DiskSpec[],
  keys?: KeyRing,
  options: OpenImageOptions = { forceShare: true },
): Storage {
  const opened: Image[] = [];
  try {
    return new Storage(
      disks.map((d) => {
        const image = openImage(d.path, { ...options, ...(d.format === undefined ? {} : { format: d.format }) });
        opened.push(image);
        debug(
          'image',
          () =>
            `${d.path}: ${image.format}, ${image.size} bytes${image.backing === undefined ? '' : `, backing file ${image.backing.label}`}`,
        );
        const source =
          d.sectorSize === undefined || d.sectorSize === image.sectorSize ? image : new SectorView(image, d.sectorSize);
        return { source, path: d.path };
      }),
      keys,
    );
  } catch (e) {
    for (const i of opened) i.close();
    throw e;
  }
}

/** The whole of an image, with the sector size that the user says it has. */
class SectorView extends Window {
  constructor(
    private readonly image: Image,
    sectorSize: number,
  ) {
    super(image, 0, image.size, image.label, sectorSize);
  }
  override close(): void {
    this.image.close();
  }
}
