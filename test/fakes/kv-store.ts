// The fake engine's memory: one number a position instead of K and V. What a position holds is a hash of what the
// position before it holds, its token and how it attended, read through the block table; so a wrong table, a lost copy
// or a block handed out twice changes every token drawn later, as it would on a device.
import { BLOCK_SIZE } from '@spotlight/cuda';

/** A 32-bit mix of two numbers (murmur3's finaliser over their combination). */
export function mix(a: number, b: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x165667b1, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Order-sensitive hash of a text. */
export function mixText(text: string): number {
  let h = text.length;
  for (let i = 0; i < text.length; i++) h = mix(h, text.charCodeAt(i));
  return h;
}

export class KvStore {
  readonly #values: Uint32Array;
  /** 1 where a device would hold something that is not finite; what is written after it takes it over. */
  readonly #damaged: Uint8Array;

  constructor(blocks: number) {
    this.#values = new Uint32Array(blocks * BLOCK_SIZE);
    this.#damaged = new Uint8Array(blocks * BLOCK_SIZE);
  }

  isDamaged(table: ArrayLike<number>, position: number): boolean {
    return position >= 0 && this.#damaged[this.#at(table, position)] === 1;
  }

  damage(table: ArrayLike<number>, position: number): void {
    this.#damaged[this.#at(table, position)] = 1;
  }

  read(table: ArrayLike<number>, position: number): number {
    if (position < 0) return 0;
    return this.#values[this.#at(table, position)] ?? 0;
  }

  write(table: ArrayLike<number>, position: number, token: number, phase: number): void {
    const at = this.#at(table, position);
    this.#values[at] = mix(mix(this.read(table, position - 1), token), phase);
    this.#damaged[at] = this.isDamaged(table, position - 1) ? 1 : 0;
  }

  copy(from: number, to: number): void {
    for (const array of [this.#values, this.#damaged])
      array.copyWithin(to * BLOCK_SIZE, from * BLOCK_SIZE, (from + 1) * BLOCK_SIZE);
  }

  /** Hash of everything up to and including the position, each read through the table. */
  context(table: ArrayLike<number>, position: number): number {
    let h = 0;
    for (let p = 0; p <= position; p++) h = mix(h, this.read(table, p));
    return h;
  }

  #at(table: ArrayLike<number>, position: number): number {
    const block = table[Math.floor(position / BLOCK_SIZE)];
    if (block === undefined) throw new RangeError(`position ${position} is beyond the block table`);
    return block * BLOCK_SIZE + (position % BLOCK_SIZE);
  }
}
