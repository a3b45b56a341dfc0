// POST /v1/completions: body -> OpenAiRequest. A prompt is text, token ids, or an array of either.
// Token arrays are checked in a plain loop: a long context holds a million of them, and zod would spend 100 ms on that.
import { z } from 'zod';
import { invalidArgument } from '../errors/service-error.js';
import type { Prompt } from '../inference/generation-request.js';
import { attentionOf, commonFields, count, samplingOf } from './fields.js';
import type { OpenAiRequest } from './openai-request.js';
import { kindOf, parseBody } from './parse-body.js';

/** Prompts of one call: each is a request of its own. */
const MAX_PROMPTS = 128;

/** OpenAI's own default, which clients of this route rely on. */
const DEFAULT_MAX_TOKENS = 16;

const completionSchema = z.strictObject({
  ...commonFields,
  prompt: z.unknown(),
  max_tokens: count.nullish(),
  logprobs: count.max(20).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().nullish(),
});

/** Throws INVALID_ARGUMENT naming the field at fault. */
export function readCompletionRequest(raw: unknown): OpenAiRequest {
  const body = parseBody(completionSchema, raw);
  if (body.best_of != null && body.best_of !== (body.n ?? 1)) {
    throw invalidArgument(
      'best_of',
      'best_of must equal n: this server does not rank choices.',
      'unsupported_parameter',
    );
  }
  const prompts = readPrompts(body.prompt);
  if (prompts.length > MAX_PROMPTS) {
    throw invalidArgument(
      'prompt',
      `prompt holds ${prompts.length} prompts; at most ${MAX_PROMPTS} go in one call.`,
    );
  }
  return {
    model: body.model ?? '',
    prompts,
    sampling: samplingOf(body, {
      maxTokens: body.max_tokens ?? DEFAULT_MAX_TOKENS,
      logprobs: body.logprobs ?? undefined,
      echo: body.echo ?? false,
    }),
    attention: attentionOf(body),
    timeoutMs: body.timeout_ms ?? undefined,
    stream: body.stream ?? false,
    logprobs: body.logprobs != null,
    includeUsage: body.stream_options?.include_usage ?? false,
    returnTokenIds: body.return_token_ids ?? false,
  };
}

function readPrompts(prompt: unknown): Prompt[] {
  if (prompt == null) throw invalidArgument('prompt', 'prompt is missing.', 'missing_required_parameter');
  if (typeof prompt === 'string') return [{ $case: 'text', value: prompt }];
  if (!Array.isArray(prompt)) {
    throw invalidArgument(
      'prompt',
      `prompt must be a string or an array, not ${kindOf(prompt)}.`,
      'invalid_type',
    );
  }
  const entries: readonly unknown[] = prompt;
  if (entries.length === 0) throw invalidArgument('prompt', 'prompt is an empty array.', 'invalid_value');
  if (typeof entries[0] === 'number') return [tokenPrompt(entries, 'prompt')];
  return entries.map((entry, index): Prompt => {
    if (typeof entry === 'string') return { $case: 'text', value: entry };
    if (Array.isArray(entry)) return tokenPrompt(entry, `prompt[${index}]`);
    throw invalidArgument(
      `prompt[${index}]`,
      `prompt[${index}] must be a string or an array of token ids, not ${kindOf(entry)}.`,
      'invalid_type',
    );
  });
}

function tokenPrompt(ids: readonly unknown[], at: string): Prompt {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 2 ** 32) continue;
    throw invalidArgument(
      `${at}[${i}]`,
      `${at}[${i}] must be a token id, not ${kindOf(id)}.`,
      'invalid_type',
    );
  }
  return { $case: 'tokenIds', value: { ids: ids as number[] } };
}
