// Token id -> the token's own bytes, laid out in one buffer so that a vocabulary of 150k tokens is three objects.
// Byte-level vocabularies spell bytes as printable characters (GPT-2's map); SentencePiece ones use U+2581 and <0xXX>.
import type { TokenizerDefinition } from './definition.js';
import { pipelineNodes } from './definition.js';
import { TokenizerError } from './errors.js';

const EMPTY = new Uint8Array(0);

export class ByteTable {
  private constructor(
    private readonly buffer: Uint8Array,
    /** [size + 1] start of each token in the buffer. */
    private readonly starts: Uint32Array,
  ) {}

  /** @throws TokenizerError when the vocabulary is of neither kind */
  static of(definition: TokenizerDefinition): ByteTable {
    const { json, source } = definition;
    const decoders = pipelineNodes(json.decoder).map((node) => node.type);
    const spell = decoders.includes('ByteLevel')
      ? spellByteLevel
      : decoders.includes('ByteFallback') || decoders.includes('Metaspace')
        ? spellSentencePiece
        : undefined;
    if (spell === undefined) {
      throw new TokenizerError(
        `${source}: decoder ${decoders.join(', ') || 'none'} is not supported: the tokenizer must be byte-level or SentencePiece`,
      );
    }
    const { vocab } = json.model;
    const entries: (readonly [string, number])[] = Array.isArray(vocab)
      ? (vocab as [string, number][]).map(([token], id) => [token, id])
      : Object.entries(vocab as Record<string, number>);
    const tokens: Uint8Array[] = [];
    for (const [token, id] of entries) tokens[id] = spell(token);
    // After the vocabulary: an added token's text is literal, whatever the vocabulary's alphabet.
    for (const { id, content } of json.added_tokens) tokens[id] = Buffer.from(content);
    return ByteTable.pack(tokens);
  }

  private static pack(tokens: readonly (Uint8Array | undefined)[]): ByteTable {
    const starts = new Uint32Array(tokens.length + 1);
    for (let id = 0; id < tokens.length; id++) starts[id + 1] = (starts[id] ?? 0) + (tokens[id]?.length ?? 0);
    const buffer = new Uint8Array(starts[tokens.length] ?? 0);
    tokens.forEach((token, id) => {
      if (token !== undefined) buffer.set(token, starts[id]);
    });
    return new ByteTable(buffer, starts);
  }

  /** Number of ids with an entry, gaps counted; a model's logits may be padded beyond it. */
  get size(): number {
    return this.starts.length - 1;
  }

  /** Bytes of the longest token. */
  get longest(): number {
    let longest = 0;
    for (let id = 0; id < this.size; id++) longest = Math.max(longest, this.bytes(id).length);
    return longest;
  }

  /** The token's bytes; none for an id outside the vocabulary, which a padded logit row can yield. */
  bytes(id: number): Uint8Array {
    const start = this.starts[id];
    const end = this.starts[id + 1];
    return start === undefined || end === undefined ? EMPTY : this.buffer.subarray(start, end);
  }
}

/** GPT-2's map: the character of each byte; printable Latin-1 is itself, the other 68 bytes are U+0100 and up. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

function spellByteLevel(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  let length = 0;
  for (const character of token) {
    const byte = BYTE_OF_CHARACTER.get(character);
    // Not of the alphabet: an added token that stands in the vocabulary only, so its text is literal.
    if (byte === undefined) return Buffer.from(token);
    bytes[length++] = byte;
  }
  return bytes.subarray(0, length);
}

function spellSentencePiece(token: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
  return byte === undefined ? Buffer.from(token.replaceAll('▁', ' ')) : Uint8Array.of(parseInt(byte, 16));
}
