// GGUF metadata -> tokenizer definition: GPT-2 style BPE ("gpt2") and SentencePiece BPE ("llama").
// SentencePiece files carry scores instead of merges; the merges are derived as Hugging Face's converter does, so ids agree.
import type { TokenizerMetadata } from '@spotlight/cuda';
import type { AddedToken, PipelineNode, TokenizerDefinition, TokenizerJson } from './definition.js';
import { TokenizerError } from './errors.js';
import { PRE_TOKENIZER_NAMES, preTokenizerRule } from './pre-tokenizers.js';

/** tokenizer.ggml.token_type of the file format. */
const TOKEN_TYPE = { unknown: 2, control: 3, userDefined: 4 } as const;

/** Control tokens that end a turn or a text by their name; files often list only one of them as eos. */
const END_NAMES: ReadonlySet<string> = new Set([
  '<|endoftext|>',
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<|end_of_text|>',
  '<end_of_turn>',
  '<｜end▁of▁sentence｜>',
]);

/** @throws TokenizerError naming the metadata key at fault */
export function definitionFromGguf(metadata: TokenizerMetadata, source: string): TokenizerDefinition {
  const { tokens } = metadata;
  if (tokens.length === 0)
    throw new TokenizerError(`${source}: tokenizer.ggml.tokens is empty, the file holds no tokenizer`);
  const added = addedTokens(metadata);
  const json =
    metadata.model === 'gpt2'
      ? bytePairJson(metadata, added, source)
      : metadata.model === 'llama'
        ? sentencePieceJson(metadata, added, source)
        : undefined;
  if (json === undefined) {
    throw new TokenizerError(
      `${source}: tokenizer.ggml.model "${metadata.model}" is not supported: gpt2 or llama`,
    );
  }
  const named = (id: number | undefined): string | undefined => (id === undefined ? undefined : tokens[id]);
  const ends = added
    .filter((token) => token.special && END_NAMES.has(token.content))
    .map((token) => token.id);
  return {
    json,
    source,
    bosToken: named(metadata.bosTokenId),
    eosToken: named(metadata.eosTokenId),
    padToken: named(metadata.padTokenId),
    unknownToken: named(metadata.unknownTokenId),
    stopTokenIds: metadata.eosTokenId === undefined ? ends : [...new Set([metadata.eosTokenId, ...ends])],
    chatTemplate: metadata.chatTemplate,
  };
}

function addedTokens(metadata: TokenizerMetadata): AddedToken[] {
  const types = metadata.tokenTypes;
  const added: AddedToken[] = [];
  metadata.tokens.forEach((content, id) => {
    const type = types?.[id];
    const special =
      type === TOKEN_TYPE.control || (type === TOKEN_TYPE.unknown && metadata.model === 'llama');
    if (!special && type !== TOKEN_TYPE.userDefined) return;
    added.push({ id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false });
  });
  return added;
}

function vocabulary(tokens: readonly string[]): Record<string, number> {
  // No prototype: "constructor" and "__proto__" are tokens of real vocabularies. The first of two equal tokens counts.
  const vocab = Object.create(null) as Record<string, number>;
  tokens.forEach((token, id) => {
    vocab[token] ??= id;
  });
  return vocab;
}

/** Adds bos and eos around the text where the file asks for them. */
function postProcessor(metadata: TokenizerMetadata, addBos: boolean, source: string): PipelineNode | null {
  const { bosTokenId, eosTokenId, tokens } = metadata;
  const before = addBos ? [wrapToken('bos', bosTokenId)] : [];
  const after = metadata.addEosToken === true ? [wrapToken('eos', eosTokenId)] : [];
  if (before.length + after.length === 0) return null;
  const special = [...before, ...after];
  return {
    type: 'TemplateProcessing',
    single: [...special.slice(0, before.length), { Sequence: { id: 'A', type_id: 0 } }, ...after].map(
      (part) => ('content' in part ? { SpecialToken: { id: part.content, type_id: 0 } } : part),
    ),
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: Object.fromEntries(
      special.map(({ content, id }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  };

  function wrapToken(
    name: string,
    id: number | undefined,
  ): { readonly content: string; readonly id: number } {
    const content = id === undefined ? undefined : tokens[id];
    if (id === undefined || content === undefined) {
      throw new TokenizerError(
        `${source}: tokenizer.ggml.add_${name}_token is set, but ${name}_token_id is ${id === undefined ? 'missing' : 'outside the vocabulary'}`,
      );
    }
    return { content, id };
  }
}

function bytePairJson(
  metadata: TokenizerMetadata,
  added: readonly AddedToken[],
  source: string,
): TokenizerJson {
  const rule = preTokenizerRule(metadata.pre);
  if (rule === undefined) {
    throw new TokenizerError(
      `${source}: tokenizer.ggml.pre "${metadata.pre ?? ''}" is not supported: ${PRE_TOKENIZER_NAMES.join(', ')}`,
    );
  }
  if (metadata.merges === undefined)
    throw new TokenizerError(`${source}: tokenizer.ggml.merges is missing, a gpt2 tokenizer needs it`);
  const addBos = metadata.addBosToken ?? (rule.addBos && metadata.bosTokenId !== undefined);
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: rule.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        ...rule.split.map((regex) => ({
          type: 'Split',
          pattern: { Regex: regex },
          behavior: 'Isolated',
          invert: false,
        })),
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: postProcessor(metadata, addBos, source),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: rule.ignoreMerges,
      vocab: vocabulary(metadata.tokens),
      merges: metadata.merges,
    },
  };
}

function sentencePieceJson(
  metadata: TokenizerMetadata,
  added: readonly AddedToken[],
  source: string,
): TokenizerJson {
  const { scores, tokens } = metadata;
  if (scores?.length !== tokens.length) {
    throw new TokenizerError(
      `${source}: tokenizer.ggml.scores has ${scores?.length ?? 0} entries for ${tokens.length} tokens`,
    );
  }
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const prefix = metadata.addSpacePrefix ?? true;
  const addBos = metadata.addBosToken ?? metadata.bosTokenId !== undefined;
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: prefix
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, space] }
      : space,
    pre_tokenizer: null,
    post_processor: postProcessor(metadata, addBos, source),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: tokens[metadata.unknownTokenId ?? 0] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocabulary(tokens),
      merges: mergesFromScores(tokens, scores),
    },
  };
}

/** Every way to join two tokens into a third, best score first; among equals longer halves first. */
function mergesFromScores(tokens: readonly string[], scores: Float32Array): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { left: string; right: string; leftLength: number; rightLength: number; score: number }[] =
    [];
  tokens.forEach((token, id) => {
    const points = Array.from(token);
    const local: [number, string, string][] = [];
    for (let cut = 1; cut < points.length; cut++) {
      const left = points.slice(0, cut).join('');
      const right = points.slice(cut).join('');
      if (ids.has(left) && ids.has(right)) local.push([cut, left, right]);
    }
    local.sort(
      (a, b) => (ids.get(a[1]) ?? 0) - (ids.get(b[1]) ?? 0) || (ids.get(a[2]) ?? 0) - (ids.get(b[2]) ?? 0),
    );
    for (const [cut, left, right] of local) {
      const score = scores[id] ?? 0;
      merges.push({ left, right, leftLength: cut, rightLength: points.length - cut, score });
    }
  });
  merges.sort((a, b) => b.score - a.score || b.leftLength - a.leftLength || b.rightLength - a.rightLength);
  return merges.map(({ left, right }) => [left, right]);
}
