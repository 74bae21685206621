/**
 * Ceilings for sizes that come from disk.  A value above its ceiling is corruption (or not worth reading), never an
 * allocation.  A driver's own ceilings are here too, so that they can be seen and tested in one place.
 */
export const limits = {
  /** Images that refer to images: qcow2 backing files, VMDK parents. */
  backingDepth: 64,
  /** MBR logical partitions, and partitions of any table. */
  partitions: 1024,
  /** Symbolic links followed in one lookup (the kernel's MAXSYMLINKS). */
  symlinks: 40,
  /** Bytes of one path. */
  pathBytes: 1 << 16,
  /** Bytes of a symbolic link's target. */
  symlinkBytes: 65536,
  /** Depth of a tree of extents or B-tree blocks. */
  treeDepth: 16,
  /** Directory nesting when walking a tree. */
  directoryDepth: 4096,
  /** Bytes of one extended attribute. */
  xattrBytes: 1 << 20,
  /** Bytes of a whole file that is parsed in memory (package databases, hives). */
  parsedFileBytes: 1 << 30,
  /** Text metadata of an LVM volume group. */
  lvmMetadataBytes: 64 << 20,
} as const;
