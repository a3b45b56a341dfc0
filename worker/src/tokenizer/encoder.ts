// R5: text -> token ids through Hugging Face's Rust tokenizer, off the JS thread. Long texts go in pieces, so that all
// cores take part and the loop breathes; a cut is made only where no split rule and no added token can reach across.
import { Tokenizer as RustTokenizer } from 'tokenizers';
import type { TokenizerDefinition, TokenizerJson } from './definition.js';
import { pipelineNodes } from './definition.js';
import { TokenizerError } from './errors.js';
import { KNOWN_SPLITS } from './pre-tokenizers.js';

/** UTF-16 units; below this a text is encoded in one call. */
const WHOLE_BELOW = 16_384;
const PIECE = 4096;
const PIECES_A_CALL = 32;

export class Encoder {
  private constructor(
    private readonly rust: RustTokenizer,
    private readonly mayCut: boolean,
    /** Ids put around a text when special tokens are asked for. */
    private readonly before: readonly number[],
    private readonly after: readonly number[],
  ) {}

  /** @throws TokenizerError when the pipeline is not one the library can run */
  static async of(definition: TokenizerDefinition): Promise<Encoder> {
    try {
      const rust = RustTokenizer.fromString(JSON.stringify(definition.json));
      rust.disableTruncation();
      rust.disablePadding();
      const bare = (await rust.encode('a', null, { addSpecialTokens: false })).getIds();
      const wrapped = (await rust.encode('a', null, { addSpecialTokens: true })).getIds();
      const at = wrapped.findIndex((_, start) => bare.every((id, i) => wrapped[start + i] === id));
      return new Encoder(
        rust,
        mayCut(definition.json),
        wrapped.slice(0, at),
        wrapped.slice(at + bare.length),
      );
    } catch (error) {
      throw new TokenizerError(
        `${definition.source}: the tokenizer cannot be built: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
  }

  /** Ids of the text; special tokens written in it are taken as such. `wrap` adds bos and eos where the model wants them. */
  async encode(text: string, wrap: boolean): Promise<number[]> {
    const ids = wrap ? [...this.before] : [];
    if (text.length < WHOLE_BELOW || !this.mayCut) {
      append(ids, (await this.rust.encode(text, null, { addSpecialTokens: false })).getIds());
    } else {
      const pieces = cut(text);
      for (let from = 0; from < pieces.length; from += PIECES_A_CALL) {
        const batch = pieces.slice(from, from + PIECES_A_CALL);
        const encodings = await this.rust.encodeBatch(batch, { addSpecialTokens: false });
        for (const encoding of encodings) append(ids, encoding.getIds());
      }
    }
    if (wrap) append(ids, this.after);
    return ids;
  }
}

function append(ids: number[], more: readonly number[]): void {
  for (const id of more) ids.push(id);
}

/** Cuts between an ASCII letter and a blank or line feed; a text without such places stays whole. */
function cut(text: string): string[] {
  const pieces: string[] = [];
  const place = /[A-Za-z](?=[ \n])/g;
  let start = 0;
  while (text.length - start > PIECE) {
    place.lastIndex = start + PIECE;
    const found = place.exec(text);
    if (found === null) break;
    pieces.push(text.slice(start, found.index + 1));
    start = found.index + 1;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/**
 * Whether the ids of a text are those of its pieces, cut between a letter and white space: true for byte-level BPE with
 * split rules we know (none matches a letter and then white space) and added tokens that hold no white space nor eat it.
 */
function mayCut(json: TokenizerJson): boolean {
  const normalizers = pipelineNodes(json.normalizer).every((node) => ['NFC', 'Sequence'].includes(node.type));
  const splits = pipelineNodes(json.pre_tokenizer);
  const known = splits.every((node) => {
    if (node.type === 'Sequence' || node.type === 'Digits') return true;
    if (node.type === 'ByteLevel') return node['add_prefix_space'] === false;
    const regex = (node['pattern'] as { Regex?: string } | undefined)?.Regex;
    return (
      node.type === 'Split' &&
      node['behavior'] === 'Isolated' &&
      regex !== undefined &&
      KNOWN_SPLITS.has(regex)
    );
  });
  const separated = splits.some(
    (node) => node.type === 'Split' || (node.type === 'ByteLevel' && node['use_regex'] !== false),
  );
  const added = json.added_tokens.every(({ content, rstrip }) => !/\s/.test(content) && rstrip !== true);
  return json.model.type === 'BPE' && normalizers && known && separated && added;
}
