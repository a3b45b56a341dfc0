// The blocks of one choice in order of position: entry p / 64 holds position p. A growing typed array, since a table of
// a million tokens as a JS array would be walked by every garbage collection.
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { BlockId } from '@spotlight/cuda';

/** Blocks that hold `tokens` positions. */
export function blocksFor(tokens: number): number {
  return Math.ceil(tokens / BLOCK_SIZE);
}

export class BlockTable {
  #ids = new Int32Array(8);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  at(index: number): BlockId {
    if (index >= this.#length) throw new RangeError(`block ${index} of a table of ${this.#length}`);
    return this.#ids[index] as BlockId;
  }

  push(block: BlockId): void {
    if (this.#length === this.#ids.length) {
      const grown = new Int32Array(this.#length * 2);
      grown.set(this.#ids);
      this.#ids = grown;
    }
    this.#ids[this.#length++] = block;
  }

  /** Entries [from, to) as the step ABI takes them. */
  slice(from: number, to = this.#length): BlockId[] {
    return Array.from(this.#ids.subarray(from, to)) as BlockId[];
  }

  /** The entries, leaving the table empty. */
  take(): Int32Array {
    const taken = this.#ids.slice(0, this.#length);
    this.#length = 0;
    return taken;
  }
}
