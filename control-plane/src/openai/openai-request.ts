// What both OpenAI routes make of a body: prompts and parameters in the wire's words, and how the answer is to be told.
// Several prompts (completions only) become several requests whose choices are numbered through.
import type { AttentionSettings, SamplingParams } from '@spotlight/proto';
import type { Prompt } from '../inference/generation-request.js';

export interface OpenAiRequest {
  /** As named by the client; empty is the only model served. */
  readonly model: string;
  readonly prompts: readonly Prompt[];
  readonly sampling: SamplingParams;
  readonly attention: AttentionSettings | undefined;
  readonly timeoutMs: number | undefined;
  readonly stream: boolean;
  readonly logprobs: boolean;
  /** A last chunk with the usage, streams only. */
  readonly includeUsage: boolean;
  /** Each choice carries its token_ids besides its text. */
  readonly returnTokenIds: boolean;
}
