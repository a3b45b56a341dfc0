// A5: from what is wanted and what is, the next thing to do. Pure and without memory: called again after every step it takes,
// it ends in the same state wherever it was interrupted. Wanted are artifacts; which slot holds which is decided here.
import type { SlotId } from '@spotlight/cuda';

export interface WantedArtifact {
  readonly digest: string;
  readonly active: boolean;
}

export interface SlotView {
  readonly slot: SlotId;
  /** '' when empty. */
  readonly digest: string;
  readonly active: boolean;
  /** Pinned to it; while there are any its artifact stays. */
  readonly requests: number;
  /** Every cached block has codes of its artifact. */
  readonly ready: boolean;
}

export type Action =
  | { readonly kind: 'load'; readonly slot: SlotId; readonly digest: string }
  | { readonly kind: 'activate'; readonly slot: SlotId }
  | { readonly kind: 'unload'; readonly slot: SlotId };

/** A wanted artifact that is not held yet. */
export interface Pending {
  readonly digest: string;
  /** Where it will go. */
  readonly slot: SlotId;
  /** What it waits for; '' when nothing is in its way. */
  readonly waitsFor: string;
}

export interface Plan {
  readonly action: Action | undefined;
  readonly pending: readonly Pending[];
  /** Every wanted artifact is ready, and the active one takes new requests. */
  readonly inForce: boolean;
  /** Nothing is left to do or to wait for, leftovers of earlier directives counted. */
  readonly settled: boolean;
}

/**
 * @param wanted at most two, at most one active; empty: what is held stays
 * @param failed digests that cannot be held now: nothing is tried for them
 */
export function plan(
  wanted: readonly WantedArtifact[],
  slots: readonly SlotView[],
  failed: ReadonlySet<string>,
): Plan {
  if (wanted.length === 0) return { action: undefined, pending: [], inForce: true, settled: true };
  const isWanted = (digest: string): boolean => wanted.some((each) => each.digest === digest);
  const pending: Pending[] = [];
  let action: Action | undefined;
  let inForce = true;
  // The active one first: it frees the slot of the one it follows.
  for (const { digest, active } of [...wanted].sort((a, b) => Number(b.active) - Number(a.active))) {
    const held = slots.find((slot) => slot.digest === digest);
    if (held !== undefined) {
      const follows = active && !held.active;
      inForce &&= held.ready && !follows;
      const nothingActive = slots.every((slot) => !slot.active || slot.digest === '');
      if (follows && (held.ready || nothingActive)) action ??= { kind: 'activate', slot: held.slot };
      continue;
    }
    inForce = false;
    const taken = new Set(pending.map(({ slot }) => slot));
    // Where both slots are taken the one that is to be active comes before the one that is not; that one comes back after.
    const place =
      placeFor(slots, isWanted, taken) ?? (active ? slots.find((slot) => !slot.active) : undefined);
    if (place === undefined) {
      const slot = slots.find((each) => !each.active)?.slot ?? 1;
      pending.push({ digest, slot, waitsFor: 'the artifact that is to be active is not active yet' });
      continue;
    }
    pending.push({ digest, slot: place.slot, waitsFor: waitsFor(place) });
    if (place.requests === 0 && !failed.has(digest)) action ??= { kind: 'load', slot: place.slot, digest };
  }
  const places = new Set(pending.map(({ slot }) => slot));
  const leftovers = slots.filter(
    ({ slot, digest, active }) => digest !== '' && !isWanted(digest) && !active && !places.has(slot),
  );
  const leftover = leftovers.find(({ requests }) => requests === 0);
  if (leftover !== undefined) action ??= { kind: 'unload', slot: leftover.slot };
  return { action, pending, inForce, settled: inForce && leftovers.length === 0 };
}

/**
 * An empty slot, or one whose artifact nobody wants; never the active one, which new requests go to, be they served dense.
 */
function placeFor(
  slots: readonly SlotView[],
  isWanted: (digest: string) => boolean,
  taken: ReadonlySet<SlotId>,
): SlotView | undefined {
  const free = slots.filter(
    ({ slot, digest, active }) => !taken.has(slot) && !active && (digest === '' || !isWanted(digest)),
  );
  return free.find(({ digest }) => digest === '') ?? free[0];
}

function waitsFor({ requests, digest }: SlotView): string {
  if (requests === 0) return '';
  if (digest === '') return 'the slot is in use for a measurement';
  return `${requests} requests still run under artifact ${digest}`;
}
