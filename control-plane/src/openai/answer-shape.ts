// How a route words its answer. Deltas go in, OpenAI objects come out; a shape holds only what one answer needs to know
// of itself (which choices have begun, how much text they have), and never touches the socket.
import type { Delta, TokenLogprob, Usage } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';

/** The fields every chunk of one answer repeats. */
export interface AnswerHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

/** A choice of an answer that is sent whole. */
export interface FinishedChoice {
  readonly index: number;
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly TokenLogprob[];
  readonly finish: Delta;
}

export interface AnswerShape {
  /** `chatcmpl` or `cmpl`. */
  readonly idPrefix: string;
  /** `object` of a chunk. */
  readonly chunkObject: string;
  /** A chunk's only choice; undefined when the delta has nothing a client could see yet. */
  choice(index: number, delta: Delta): object | undefined;
  whole(head: AnswerHead, choices: readonly FinishedChoice[], usage: Usage): object;
}

/** The part of an OpenAiRequest that a shape reads. */
export interface ShapeOptions {
  /** Whether the client asked for log-probabilities. */
  readonly logprobs: boolean;
  readonly returnTokenIds: boolean;
  readonly includeUsage: boolean;
}

export interface OpenAiUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

export function openAiUsage(usage: Usage): OpenAiUsage {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  };
}

/** `stop_reason` is vLLM's: which string or token ended the choice, null for the model's own end. */
export interface FinishFields {
  readonly finish_reason: 'stop' | 'length' | null;
  readonly stop_reason?: string | number | null;
}

export function finishFields(delta: Delta): FinishFields {
  switch (delta.finishReason) {
    case FinishReason.STOP:
      return { finish_reason: 'stop', stop_reason: delta.stopReason?.value ?? null };
    case FinishReason.LENGTH:
      return { finish_reason: 'length', stop_reason: null };
    default:
      return { finish_reason: null };
  }
}

/** Whether a client learns anything from this delta: text may lag behind tokens while a code point is incomplete. */
export function isVisible(delta: Delta, options: ShapeOptions): boolean {
  return (
    delta.text !== '' ||
    delta.finishReason !== FinishReason.UNSPECIFIED ||
    (options.logprobs && delta.logprobs.length > 0) ||
    (options.returnTokenIds && delta.tokenIds.length > 0)
  );
}
