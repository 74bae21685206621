import { check, countReferences, type Tally } from './check.js';
import { rebuildRefcounts } from './rebuild.js';
import { INCOMPAT_CORRUPT, INCOMPAT_DIRTY } from './structs.js';
import { updateFlags } from './trees.js';
import type { Writer } from './writer.js';

/** Repairs counts and flags; what refers to nothing sensible stays and is reported. */
export function repairImage(w: Writer, what: 'leaks' | 'all'): Tally {
  const { s, refcounts } = w;
  const before = check(s, refcounts);
  // Counts without a block to be in: making single blocks among clusters whose counts are wrong would overwrite some.
  const missing = () => before.tooLow.some((c) => refcounts.blockOffset(Math.floor(c / refcounts.perBlock)) === 0);
  if (what === 'all' && (before.refcountsBroken || missing())) {
    rebuild(w, refcounts.order);
  } else if (!before.refcountsBroken) {
    if (what === 'all') for (const c of before.tooLow) refcounts.set(c, before.counts.get(c));
    for (const c of before.tooHigh) refcounts.set(c, c < before.clusters ? before.counts.get(c) : 0);
    refcounts.write();
    w.target.flush();
  }
  if (what === 'all') updateFlags(s, refcounts, s.l1, 'by count');
  w.writeBack(true);
  w.target.flush();
  refcounts.reset();
  s.l2.clear();
  const after = check(s, refcounts);
  after.corruptionsFixed = Math.max(0, before.corruptions - after.corruptions);
  after.leaksFixed = Math.max(0, before.leaks - after.leaks);
  if (what === 'all' && after.corruptions === 0) clearMarks(w);
  return after;
}

/** All refcount structures anew, from what is referred to, `order` wide. */
export function rebuild(w: Writer, order: number): void {
  const { s, refcounts } = w;
  w.target.flush();
  const t = countReferences(s);
  rebuildRefcounts(w.target, s.header, (c) => t.counts.get(c), t.clusters, order, w.barriers);
  refcounts.reset();
}

export function clearMarks(w: Writer): void {
  const marks = INCOMPAT_CORRUPT | INCOMPAT_DIRTY;
  if ((w.s.header.incompatible & marks) === 0n) return;
  w.s.header.incompatible &= ~marks;
  w.s.writeHeader();
}
