// Tests only: two small vocabularies in GGUF's own form, whose ids can be worked out by hand.
import type { TokenizerMetadata } from '@spotlight/cuda';
import { BYTE_CHARACTERS } from './byte-table.js';

/** Ids 0..255 are the bytes, then the merges "th", "the", "Ġthe", "in", then <|end|> and the user-defined <tool>. */
export function byteLevelMetadata(overrides: Partial<TokenizerMetadata> = {}): TokenizerMetadata {
  const merges = ['t h', 'th e', 'Ġ the', 'i n'];
  const tokens = [...BYTE_CHARACTERS, ...merges.map((merge) => merge.replace(' ', '')), '<|end|>', '<tool>'];
  const tokenTypes = new Int32Array(tokens.length).fill(1);
  tokenTypes[260] = 3;
  tokenTypes[261] = 4;
  return {
    model: 'gpt2',
    pre: 'gpt-2',
    tokens,
    merges,
    tokenTypes,
    eosTokenId: 260,
    bosTokenId: 260,
    ...overrides,
  };
}

/** SentencePiece BPE: <unk> <s> </s>, 256 byte tokens, then pieces with scores. */
export function sentencePieceMetadata(overrides: Partial<TokenizerMetadata> = {}): TokenizerMetadata {
  const pieces = ['▁', 'h', 'e', 'l', 'o', 'he', 'll', '▁he', 'llo', '▁hello', '日'];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...pieces];
  const scores = new Float32Array(tokens.length);
  pieces.forEach((_, i) => {
    scores[259 + i] = -i;
  });
  const tokenTypes = new Int32Array(tokens.length).fill(1);
  tokenTypes.set([2, 3, 3]);
  tokenTypes.fill(6, 3, 259);
  return {
    model: 'llama',
    tokens,
    scores,
    tokenTypes,
    bosTokenId: 1,
    eosTokenId: 2,
    unknownTokenId: 0,
    ...overrides,
  };
}
