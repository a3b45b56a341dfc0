// Whether every value of a tensor's bytes is a number: NaN and infinity are the values whose exponent bits are all ones. Bytes come in
// pieces cut anywhere, so a value may begin in one and end in the next. Pure but for the few bytes carried over.
import type { Dtype } from './header.js';
import { WIDTH } from './header.js';

const EXPONENT: Readonly<Record<Dtype, number>> = { F32: 0x7f80_0000, F16: 0x7c00, BF16: 0x7f80 };

export class FiniteCheck {
  readonly #width: number;
  readonly #exponent: number;
  readonly #carry: Buffer;
  #carried = 0;
  #seen = 0;

  constructor(dtype: Dtype) {
    this.#width = WIDTH[dtype];
    this.#exponent = EXPONENT[dtype];
    this.#carry = Buffer.alloc(this.#width);
  }

  /** Index of the first value that is NaN or infinite among those that end in this piece; undefined when none is. */
  push(piece: Buffer): number | undefined {
    let from = 0;
    if (this.#carried > 0) {
      from = Math.min(this.#width - this.#carried, piece.length);
      piece.copy(this.#carry, this.#carried, 0, from);
      this.#carried += from;
      if (this.#carried < this.#width) return undefined;
      this.#carried = 0;
      const found = this.#check(this.#carry);
      if (found !== undefined) return found;
    }
    const whole = Math.floor((piece.length - from) / this.#width) * this.#width;
    const found = this.#check(piece.subarray(from, from + whole));
    this.#carried = piece.copy(this.#carry, 0, from + whole);
    return found;
  }

  #check(bytes: Buffer): number | undefined {
    const words = aligned(bytes, this.#width);
    const exponent = this.#exponent;
    for (let i = 0; i < words.length; i++) {
      if (((words[i] ?? 0) & exponent) === exponent) return this.#seen + i;
    }
    this.#seen += words.length;
    return undefined;
  }
}

/** A view of whole little-endian words; copied only when the bytes do not lie on a word's border. */
function aligned(bytes: Buffer, width: number): Uint16Array | Uint32Array {
  const { buffer, byteOffset, length } = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  return width === 4
    ? new Uint32Array(buffer, byteOffset, length / 4)
    : new Uint16Array(buffer, byteOffset, length / 2);
}
