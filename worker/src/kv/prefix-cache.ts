// R6: full blocks by the chain of all tokens up to their end. A key is a SHA-256 over the parent's key and the block's
// tokens: a hash that can be made to collide would hand one user another user's cache. Blocks that hold generated
// tokens are keyed with a salt besides (KeyChain), since sparse attention makes their K and V depend on it.
import { hash } from 'node:crypto';
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { BlockId } from '@spotlight/cuda';

const KEY_BYTES = 32;
const scratch = Buffer.alloc(KEY_BYTES + BLOCK_SIZE * 4);
const scratchTokens = new Int32Array(BLOCK_SIZE);
const scratchTokenBytes = new Uint8Array(scratchTokens.buffer);

/** Key of a full block. `parent` is the previous block's key, '' for the first; `token(i)` gives its i-th token. */
export function blockKey(parent: string, token: (offset: number) => number): string {
  for (let i = 0; i < BLOCK_SIZE; i++) scratchTokens[i] = token(i);
  scratch.fill(0, 0, KEY_BYTES);
  scratch.write(parent, 0, 'latin1');
  scratch.set(scratchTokenBytes, KEY_BYTES);
  return hash('sha256', scratch, 'binary');
}

/** The key that stands for `parent` from the first generated token on. */
export function saltedKey(parent: string, salt: string): string {
  return hash('sha256', Buffer.from(`${parent}\n${salt}`, 'latin1'), 'binary');
}

/** Keyed blocks, and which of them nobody holds, in order of last use. Holder counts are the block manager's. */
export class PrefixCache {
  readonly #blocks = new Map<string, BlockId>();
  readonly #keys: (string | undefined)[];
  // A ring through the parked blocks, oldest after the sentinel `total`; -1 where a block is not parked.
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #parkedCount = 0;

  constructor(readonly total: number) {
    this.#keys = new Array<string | undefined>(total).fill(undefined);
    this.#newer = new Int32Array(total + 1).fill(-1);
    this.#older = new Int32Array(total + 1).fill(-1);
    this.#newer[total] = total;
    this.#older[total] = total;
  }

  /** Blocks with a key. */
  get size(): number {
    return this.#blocks.size;
  }

  /** Cached blocks nobody holds. */
  get parkedCount(): number {
    return this.#parkedCount;
  }

  find(key: string): BlockId | undefined {
    return this.#blocks.get(key);
  }

  has(block: BlockId): boolean {
    return this.#keys[block] !== undefined;
  }

  isParked(block: BlockId): boolean {
    return this.#newer[block] !== -1;
  }

  /** Keys a held block; without effect when another block has the key already. */
  register(block: BlockId, key: string): void {
    if (this.#blocks.has(key) || this.#keys[block] !== undefined) return;
    this.#blocks.set(key, block);
    this.#keys[block] = key;
  }

  /** The last holder of a keyed block is gone. */
  park(block: BlockId): void {
    if (this.isParked(block)) throw new RangeError(`block ${block} is parked twice`);
    const newest = this.#at(this.#older, this.total);
    this.#newer[newest] = block;
    this.#older[block] = newest;
    this.#newer[block] = this.total;
    this.#older[this.total] = block;
    this.#parkedCount++;
  }

  /** A parked block is held again. */
  unpark(block: BlockId): void {
    if (!this.isParked(block)) throw new RangeError(`block ${block} is not cached`);
    const newer = this.#at(this.#newer, block);
    const older = this.#at(this.#older, block);
    this.#older[newer] = older;
    this.#newer[older] = newer;
    this.#newer[block] = -1;
    this.#older[block] = -1;
    this.#parkedCount--;
  }

  /** Forgets the parked block used longest ago and gives it; undefined when none is parked. */
  reclaim(): BlockId | undefined {
    const oldest = this.#at(this.#newer, this.total);
    if (oldest === this.total) return undefined;
    this.unpark(oldest as BlockId);
    this.#unkey(oldest as BlockId);
    return oldest as BlockId;
  }

  /** No block is found any more; those nobody holds are given back one by one. */
  *clear(): IterableIterator<BlockId> {
    for (const block of this.#blocks.values()) this.#keys[block] = undefined;
    this.#blocks.clear();
    for (let block = this.reclaim(); block !== undefined; block = this.reclaim()) yield block;
  }

  /** The key is found no more. Gives its block when nobody holds it: it is no longer parked, and the caller's to free. */
  forget(key: string): BlockId | undefined {
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#unkey(block);
    if (!this.isParked(block)) return undefined;
    this.unpark(block);
    return block;
  }

  #unkey(block: BlockId): void {
    const key = this.#keys[block];
    if (key !== undefined) this.#blocks.delete(key);
    this.#keys[block] = undefined;
  }

  #at(array: Int32Array, index: number): number {
    return array[index] ?? -1;
  }
}
