// A tokenizer's text side without a model: each token id has a fixed piece, some of them halves of a code point, one of
// them special, so that stop strings and held-back bytes are met by random tokens.
import type { TextStream, TokenTexts } from '@spotlight/worker/engine/api.js';

const PIECES = ['a', 'b', 'ab', 'ba', 'c', ' ', 'abc', 'é', 'the', '.', 'A', 'bb', '日', '\n', 'xy', 'z'];
const SMILE = new TextEncoder().encode('🙂');

export class FakeTexts implements TokenTexts {
  readonly stopTokenIds: ReadonlySet<number>;
  readonly #table: readonly Uint8Array[];

  constructor(vocabSize: number, stopTokenIds: Iterable<number>) {
    this.stopTokenIds = new Set(stopTokenIds);
    const encoder = new TextEncoder();
    this.#table = Array.from({ length: vocabSize }, (_, id) => {
      if (id % 23 === 5) return SMILE.slice(0, 2);
      if (id % 23 === 6) return SMILE.slice(2);
      return encoder.encode(PIECES[id % PIECES.length]);
    });
  }

  bytes(tokenId: number): Uint8Array {
    return this.#table[tokenId] ?? new Uint8Array();
  }

  openStream({ skipSpecial = false }: { readonly skipSpecial?: boolean } = {}): TextStream {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const empty = new Uint8Array();
    return {
      push: (id) =>
        decoder.decode(skipSpecial && this.stopTokenIds.has(id) ? empty : this.bytes(id), { stream: true }),
      flush: () => decoder.decode(),
    };
  }

  /** Text of all tokens at once. */
  text(tokens: Iterable<number>): string {
    const stream = this.openStream({ skipSpecial: true });
    let text = '';
    for (const token of tokens) text += stream.push(token);
    return text + stream.flush();
  }
}
