// R6: who holds each block of the native pool. Counts live in typed arrays indexed by block id, so that a step's
// bookkeeping makes no garbage. A released block stays held until every step submitted before the release has
// retired: a step in flight may still write to it.
import type { BlockId } from '@spotlight/cuda';
import type { BlockTable } from './block-table.js';
import { PrefixCache } from './prefix-cache.js';
import { StaleCodes } from './stale-codes.js';

interface Retirement {
  readonly step: number;
  readonly blocks: Int32Array;
}

export class BlockManager {
  readonly cache: PrefixCache;
  readonly stale: StaleCodes;
  readonly #holders: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #retiring: Retirement[] = [];
  #retiringCount = 0;
  /** Steps up to this one have retired. */
  #retired = 0;

  constructor(readonly total: number) {
    this.cache = new PrefixCache(total);
    this.stale = new StaleCodes(total);
    this.#holders = new Int32Array(total);
    this.#free = Int32Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#freeCount = total;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** Blocks an allocation may take now: free, or cached and held by nobody. */
  get available(): number {
    return this.#freeCount + this.cache.parkedCount;
  }

  /** Holds that end when the steps in flight retire; at most so many blocks become available then. */
  get retiringCount(): number {
    return this.#retiringCount;
  }

  holders(block: BlockId): number {
    return this.#holders[block] ?? 0;
  }

  canAllocate(count: number): boolean {
    return count <= this.available;
  }

  /** One block with one holder. Ask canAllocate first. */
  allocate(): BlockId {
    let block = this.#freeCount > 0 ? (this.#free[--this.#freeCount] as BlockId) : undefined;
    block ??= this.cache.reclaim();
    if (block === undefined) throw new RangeError('allocate() without canAllocate(): no block is available');
    this.#holders[block] = 1;
    this.stale.renewed(block);
    return block;
  }

  /** One more holder of a held or cached block. */
  share(block: BlockId): void {
    const holders = this.holders(block);
    if (holders === 0) this.cache.unpark(block);
    this.#holders[block] = holders + 1;
  }

  /** Ends the table's hold on its blocks once step `after` has retired, and empties the table. */
  release(table: BlockTable, after: number): void {
    if (table.length === 0) return;
    this.#end(table.take(), after);
  }

  /** Ends one hold on one block once step `after` has retired. */
  releaseOne(block: BlockId, after: number): void {
    this.#end(Int32Array.of(block), after);
  }

  /** Steps up to `step` have retired: holds that waited for them end. */
  retire(step: number): void {
    this.#retired = step;
    let first = this.#retiring[0];
    while (first !== undefined && first.step <= step) {
      this.#retiring.shift();
      this.#retiringCount -= first.blocks.length;
      this.#drop(first.blocks);
      first = this.#retiring[0];
    }
  }

  /** No cached block is found any more: what is cached no longer fits what would be computed now. */
  forgetCached(): void {
    for (const block of this.cache.clear()) this.#free[this.#freeCount++] = block;
  }

  /** The block of this key is found no more; whoever holds it keeps it. */
  forget(key: string): void {
    const block = this.cache.forget(key);
    if (block !== undefined) this.#free[this.#freeCount++] = block;
  }

  /** Every hold that waits for a step, one entry a hold. For the audit. */
  *retiringBlocks(): IterableIterator<number> {
    for (const { blocks } of this.#retiring) yield* blocks;
  }

  freeBlocks(): Int32Array {
    return this.#free.subarray(0, this.#freeCount);
  }

  #end(blocks: Int32Array, after: number): void {
    if (after <= this.#retired) {
      this.#drop(blocks);
      return;
    }
    this.#retiring.push({ step: after, blocks });
    this.#retiringCount += blocks.length;
  }

  /** Last block first: the end of a chain is worth less than its beginning, so it is reclaimed earlier. */
  #drop(blocks: Int32Array): void {
    for (let i = blocks.length - 1; i >= 0; i--) {
      const block = blocks[i] as BlockId;
      const holders = this.holders(block) - 1;
      if (holders < 0) throw new RangeError(`block ${block} is released more often than it was held`);
      this.#holders[block] = holders;
      if (holders > 0) continue;
      if (this.cache.has(block)) this.cache.park(block);
      else this.#free[this.#freeCount++] = block;
    }
  }
}
