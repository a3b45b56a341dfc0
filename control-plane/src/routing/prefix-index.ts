// Which workers have seen which prompt chunk: an LRU from chunk hash to worker numbers, bounded in entries and in workers an entry.
// Workers are numbers anew each time they join, so forgetting one is O(1): its old number simply resolves to nobody.

/** Beyond this many holders a chunk is warm everywhere that matters; the newest replace the oldest. */
const HOLDERS = 8;

export class PrefixIndex {
  readonly #entries = new Map<bigint, number[]>();
  readonly #numbers = new Map<string, number>();
  readonly #names = new Map<number, string>();
  #next = 0;

  constructor(readonly maxEntries: number) {}

  get size(): number {
    return this.#entries.size;
  }

  /** Notes that the worker gets a prompt of these chunks. */
  record(hashes: readonly bigint[], workerId: string): void {
    const number = this.#numberOf(workerId);
    // From the end: the first chunks, which other prompts share, become the most recently used.
    for (let i = Math.min(hashes.length, this.maxEntries) - 1; i >= 0; i--) {
      const hash = hashes[i];
      if (hash === undefined) continue;
      const holders = this.#entries.get(hash) ?? [];
      this.#entries.delete(hash);
      if (!holders.includes(number)) {
        if (holders.length === HOLDERS) holders.shift();
        holders.push(number);
      }
      this.#entries.set(hash, holders);
    }
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.maxEntries) break;
      this.#entries.delete(oldest);
    }
  }

  /** Worker id -> leading chunks it has seen; workers that have seen none are absent. */
  match(hashes: readonly bigint[]): Map<string, number> {
    const matched = new Map<string, number>();
    for (let i = 0; i < hashes.length; i++) {
      let alive = false;
      for (const number of this.#entries.get(hashes[i] ?? 0n) ?? []) {
        const name = this.#names.get(number);
        if (name === undefined || (matched.get(name) ?? 0) !== i) continue;
        matched.set(name, i + 1);
        alive = true;
      }
      if (!alive) break;
    }
    return matched;
  }

  /** A worker that joins again comes with an empty cache. */
  forget(workerId: string): void {
    const number = this.#numbers.get(workerId);
    if (number === undefined) return;
    this.#numbers.delete(workerId);
    this.#names.delete(number);
  }

  #numberOf(workerId: string): number {
    const known = this.#numbers.get(workerId);
    if (known !== undefined) return known;
    const number = this.#next++;
    this.#numbers.set(workerId, number);
    this.#names.set(number, workerId);
    return number;
  }
}
