// Seeded numbers for generated tasks: the same haystacks from the same seed on every machine.
import { createHash } from 'node:crypto';

export class Random {
  #counter = 0;
  constructor(private readonly seed: string) {}

  /** In [0, 1), 48 bits of SHA-256 over the seed and a counter. */
  next(): number {
    const hash = createHash('sha256').update(`${this.seed}\n${this.#counter++}`).digest();
    return hash.readUIntBE(0, 6) / 2 ** 48;
  }
  integer(below: number): number {
    return Math.floor(this.next() * below);
  }
  pick<T>(values: readonly T[]): T {
    const value = values[this.integer(values.length)];
    if (value === undefined) throw new RangeError('nothing to pick from');
    return value;
  }
}
