// R6, A6: which blocks hold codes of another artifact than the one their plane's slot has now. Everything written before a
// slot was loaded is stale; a block handed out anew is not, since whoever fills it hashes for every loaded slot. The
// native engine keeps its own epochs and rehashes a stale hit before use: this book only says what is left to do.
import type { BlockId, SlotId } from '@spotlight/cuda';

export class StaleCodes {
  readonly #stale: readonly [Uint8Array, Uint8Array];
  /** Where the next search begins, by slot: blocks already looked at come last. */
  readonly #cursor = [0, 0];

  constructor(readonly total: number) {
    this.#stale = [new Uint8Array(total), new Uint8Array(total)];
  }

  /** The slot's artifact has changed: every block written so far is stale. */
  changed(slot: SlotId): void {
    this.#stale[slot].fill(1);
    this.#cursor[slot] = 0;
  }

  /** The slot is empty: there is nothing to hash for. */
  emptied(slot: SlotId): void {
    this.#stale[slot].fill(0);
  }

  /** The block is handed out to be written from its beginning. */
  renewed(block: BlockId): void {
    for (const stale of this.#stale) stale[block] = 0;
  }

  /** A copy carries the codes of its original. */
  copied(from: BlockId, to: BlockId): void {
    for (const stale of this.#stale) stale[to] = stale[from] ?? 0;
  }

  isStale(slot: SlotId, block: BlockId): boolean {
    return this.#stale[slot][block] === 1;
  }

  /** Up to `most` stale blocks among those `wanted`. */
  some(slot: SlotId, most: number, wanted: (block: BlockId) => boolean): BlockId[] {
    const found: BlockId[] = [];
    const stale = this.#stale[slot];
    const from = this.#cursor[slot] ?? 0;
    for (let i = 0; i < this.total && found.length < most; i++) {
      const block = ((from + i) % this.total) as BlockId;
      if (stale[block] !== 1 || !wanted(block)) continue;
      found.push(block);
      this.#cursor[slot] = (block + 1) % this.total;
    }
    return found;
  }

  /** Stale blocks among those `wanted`. */
  count(slot: SlotId, wanted: (block: BlockId) => boolean): number {
    const stale = this.#stale[slot];
    let count = 0;
    for (let block = 0; block < this.total; block++) {
      if (stale[block] === 1 && wanted(block as BlockId)) count++;
    }
    return count;
  }

  /** These blocks carry the codes of the slot's artifact. */
  rehashed(slot: SlotId, blocks: readonly BlockId[]): void {
    for (const block of blocks) this.#stale[slot][block] = 0;
  }
}
