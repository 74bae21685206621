import type { BlockSource } from '../block/source.js';
import { gpt } from './gpt/index.js';
import { mbr } from './mbr/index.js';
import type { PartitionScheme } from './scheme.js';

/** Probing order: a GPT disk has a protective MBR as well, so GPT comes first. */
export const schemes: readonly PartitionScheme[] = [gpt, mbr];

/** The scheme of this disk; undefined for a disk without a table that we know. */
export const schemeOf = (disk: BlockSource): PartitionScheme | undefined => schemes.find((s) => s.probe(disk));
