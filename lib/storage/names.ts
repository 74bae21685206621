/** Device names as Linux and libguestfs give them, and the other names by which a guest's configuration calls a device. */

/** 0 → "sda", 25 → "sdz", 26 → "sdaa". */
export function diskName(index: number): string {
  let letters = '';
  for (let n = index + 1; n > 0; n = Math.floor((n - 1) / 26)) letters = String.fromCharCode(97 + ((n - 1) % 26)) + letters;
  return `sd${letters}`;
}

/** The index of a disk name: "sda" → 0; undefined for what is none. */
export function diskIndex(letters: string): number | undefined {
  let n = 0;
  for (const c of letters) n = n * 26 + (c.charCodeAt(0) - 96);
  return letters === '' ? undefined : n - 1;
}

/**
 * The guest calls its disks by the bus they are on (vda, hda, xvda, nvme0n1, mmcblk0); here they are all sdX in the order
 * in which they were added.  The same name with our prefix, or undefined when it is no disk name.
 */
export function canonicalDiskDevice(device: string): string | undefined {
  const classic = /^\/dev\/(?:[hsv]|xv|ub)d([a-z]{1,3})([0-9]*)$/.exec(device);
  if (classic !== null) return `/dev/sd${classic[1]}${classic[2]}`;
  const nvme =
    /^\/dev\/nvme([0-9]{1,3})n1(?:p([0-9]+))?$/.exec(device) ?? /^\/dev\/mmcblk([0-9]{1,3})(?:p([0-9]+))?$/.exec(device);
  return nvme === null ? undefined : `/dev/${diskName(Number(nvme[1]))}${nvme[2] ?? ''}`;
}

/** device-mapper doubles the dashes inside the names it joins with one. */
export const mapperName = (group: string, volume: string) =>
  `/dev/mapper/${group.replaceAll('-', '--')}-${volume.replaceAll('-', '--')}`;

/** udev's escapes in /dev/disk/by-*: "\x20". */
export const unescapeUdev = (s: string) =>
  s.replace(/\\x([0-9a-fA-F]{2})/g, (_, h: string) => String.fromCharCode(Number.parseInt(h, 16)));
