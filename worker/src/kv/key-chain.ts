// The cache keys of one choice's full blocks, computed once each and only as far as asked for. Where the first token of
// the generated phase stands, the chain takes a salt (artifact, settings and that position): from there on K and V
// depend on what attention selected. A choice that attends densely throughout has no salt, so a later prompt finds
// what it generated.
import { BLOCK_SIZE } from '@spotlight/cuda';
import { blockKey, saltedKey } from './prefix-cache.js';

export class KeyChain {
  readonly #keys: string[];

  /**
   * @param token token at a position, asked only below the position keyed
   * @param salt undefined when the generated phase computes what the prompt phase would
   * @param boundary first position of the generated phase
   * @param known keys of leading blocks another choice has computed
   */
  constructor(
    private readonly token: (position: number) => number,
    private readonly salt: string | undefined,
    private readonly boundary: number,
    known: readonly string[] = [],
  ) {
    this.#keys = known.slice();
  }

  /** Key of block `index`, all of whose tokens are known. */
  key(index: number): string {
    for (let next = this.#keys.length; next <= index; next++) {
      const start = next * BLOCK_SIZE;
      let parent = this.#keys[next - 1] ?? '';
      const holdsBoundary = this.boundary >= start && this.boundary < start + BLOCK_SIZE;
      if (this.salt !== undefined && holdsBoundary)
        parent = saltedKey(parent, `${this.boundary}\n${this.salt}`);
      this.#keys.push(blockKey(parent, (offset) => this.token(start + offset)));
    }
    return this.#keys[index] ?? '';
  }

  /** Keys of the first `count` blocks, as far as computed. */
  computed(count: number): readonly string[] {
    return this.#keys.slice(0, count);
  }
}
