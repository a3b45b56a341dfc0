// A tokenizer as every loader gives it: Hugging Face's tokenizer.json as an object, and what that file does not hold.
// GGUF metadata is turned into the same object, so that one encoder, one byte table and one set of tests serve both.

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
}

/** A node of tokenizer.json's pipeline: normalizer, pre-tokenizer, post-processor or decoder. */
export interface PipelineNode {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface TokenizerJson {
  readonly version?: string;
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: PipelineNode | null;
  readonly pre_tokenizer: PipelineNode | null;
  readonly post_processor: PipelineNode | null;
  readonly decoder: PipelineNode | null;
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[];
    readonly [key: string]: unknown;
  };
}

export interface TokenizerDefinition {
  readonly json: TokenizerJson;
  /** Where it came from, for messages. */
  readonly source: string;
  readonly bosToken?: string;
  readonly eosToken?: string;
  readonly padToken?: string;
  readonly unknownToken?: string;
  /** Ids that end a choice, besides those the weights' own configuration names. */
  readonly stopTokenIds: readonly number[];
  readonly chatTemplate?: string;
}

/** A node and everything below it, in order. */
export function pipelineNodes(node: PipelineNode | null): readonly PipelineNode[] {
  if (node === null) return [];
  const parts = ['normalizers', 'pretokenizers', 'processors', 'decoders'].flatMap((key) => {
    const list = node[key];
    return Array.isArray(list) ? (list as PipelineNode[]) : [];
  });
  return [node, ...parts.flatMap(pipelineNodes)];
}
