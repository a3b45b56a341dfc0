// The rules of a request that hold at every door, under the proto's field names (OpenAI's are the same words without `sampling.`).
// What needs the model (prompt length, token ids inside the vocabulary) is the worker's to judge.
import type { AttentionSettings, SamplingParams } from '@spotlight/proto';
import { TailMode } from '@spotlight/proto';
import { invalidArgument } from '../errors/service-error.js';
import type { Prompt } from './generation-request.js';

/** Choices of one request. */
export const MAX_CHOICES = 128;
/** Alternatives a token under logprobs. */
export const MAX_LOGPROBS = 20;

type Bound = { readonly above: number } | { readonly from: number };

function within(field: string, value: number | undefined, low: Bound, high: number): void {
  if (value === undefined) return;
  const lowHolds = 'above' in low ? value > low.above : value >= low.from;
  if (lowHolds && value <= high) return; // A NaN holds nowhere.
  const lowText = 'above' in low ? `above ${low.above}` : `at least ${low.from}`;
  const highText = high === Number.POSITIVE_INFINITY ? '' : ` and at most ${high}`;
  throw invalidArgument(field, `${field} is ${value}; it must be ${lowText}${highText}.`);
}

/** Throws INVALID_ARGUMENT naming the first field at fault. */
export function validateSampling(sampling: SamplingParams): void {
  const infinite = Number.POSITIVE_INFINITY;
  within('sampling.temperature', sampling.temperature, { from: 0 }, Number.MAX_VALUE);
  within('sampling.top_p', sampling.topP, { above: 0 }, 1);
  within('sampling.min_p', sampling.minP, { from: 0 }, 1);
  within('sampling.presence_penalty', sampling.presencePenalty, { from: -2 }, 2);
  within('sampling.frequency_penalty', sampling.frequencyPenalty, { from: -2 }, 2);
  within('sampling.repetition_penalty', sampling.repetitionPenalty, { above: 0 }, Number.MAX_VALUE);
  within('sampling.logprobs', sampling.logprobs, { from: 0 }, MAX_LOGPROBS);
  within('sampling.n', sampling.n, { from: 1 }, MAX_CHOICES);
  within('sampling.max_tokens', sampling.maxTokens, { from: sampling.echo ? 0 : 1 }, infinite);
  for (const [token, bias] of Object.entries(sampling.logitBias)) {
    within(`sampling.logit_bias[${token}]`, bias, { from: -100 }, 100);
  }
  if (sampling.stop.includes('')) {
    throw invalidArgument(
      'sampling.stop',
      'sampling.stop holds an empty string, which would end every choice at once; leave it out.',
    );
  }
  const { minTokens, maxTokens } = sampling;
  if (minTokens !== undefined && maxTokens !== undefined && minTokens > maxTokens) {
    throw invalidArgument(
      'sampling.min_tokens',
      `sampling.min_tokens is ${minTokens}, above max_tokens ${maxTokens}; lower it.`,
    );
  }
}

/** Throws INVALID_ARGUMENT naming the first field at fault. Whether a worker has the backend is the worker's to say. */
export function validateAttention(attention: AttentionSettings | undefined): void {
  if (attention === undefined) return;
  within('attention.fraction', attention.fraction, { above: 0 }, 1);
  if (attention.backend === '') {
    throw invalidArgument('attention.backend', 'attention.backend is empty; name a backend or leave it out.');
  }
  if (attention.tail === TailMode.UNRECOGNIZED) {
    throw invalidArgument('attention.tail', 'attention.tail is not a mode this server knows.');
  }
}

/** Throws INVALID_ARGUMENT for a prompt with nothing in it: there is no token to continue from. */
export function validatePrompt(prompt: Prompt | undefined): asserts prompt is Prompt {
  if (prompt === undefined)
    throw invalidArgument('prompt', 'prompt is missing; give text, token ids or a chat.');
  switch (prompt.$case) {
    case 'text':
      if (prompt.value === '')
        throw invalidArgument('prompt', 'prompt is empty; give at least one character.');
      return;
    case 'tokenIds':
      if (prompt.value.ids.length === 0)
        throw invalidArgument('prompt', 'prompt holds no token; give at least one.');
      return;
    case 'chat': {
      const { messages, addGenerationPrompt, continueFinalMessage } = prompt.value;
      if (messages.length === 0) throw invalidArgument('messages', 'messages is empty; give at least one.');
      for (const [index, message] of messages.entries()) {
        if (message.role === '') throw invalidArgument(`messages[${index}].role`, 'A message needs a role.');
      }
      if (continueFinalMessage === true && addGenerationPrompt !== false) {
        throw invalidArgument(
          'continue_final_message',
          'continue_final_message needs add_generation_prompt to be false: a turn cannot be both continued and begun.',
        );
      }
    }
  }
}
