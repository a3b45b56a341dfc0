// The tokenizer of a resolved model: from its folder, else from what its weights carry, else (dummy weights) one of bytes.
import type { ModelInfo, TokenizerMetadata } from '@spotlight/cuda';
import type { ResolvedModel } from '../models/resolve.js';
import { dummyDefinition } from './dummy.js';
import { definitionFromFolder } from './from-folder.js';
import { definitionFromGguf } from './from-gguf.js';
import { Tokenizer } from './tokenizer.js';

/** What opened the weights: an engine, or a trainer. */
export interface OpenedModel {
  readonly info: { readonly model: ModelInfo };
  tokenizerMetadata(): TokenizerMetadata | undefined;
}

/**
 * [async]
 * @param mostTokens a text that cannot fit is refused before it is encoded
 * @throws TokenizerError
 */
export async function openTokenizer(
  model: ResolvedModel,
  opened: OpenedModel,
  mostTokens: number,
): Promise<Tokenizer> {
  const { vocabSize, eosTokenIds } = opened.info.model;
  const metadata = opened.tokenizerMetadata();
  const definition =
    model.tokenizerFolder !== undefined
      ? await definitionFromFolder(model.tokenizerFolder)
      : metadata !== undefined
        ? definitionFromGguf(metadata, model.origin)
        : dummyDefinition(vocabSize, model.origin);
  return Tokenizer.create(definition, eosTokenIds, mostTokens);
}
