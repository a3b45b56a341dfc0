// The parameters that chat and text completions share: OpenAI's own and, as vLLM has them, extra fields of the body.
// Types and OpenAI's ranges are judged here; the rules every door shares are in inference/validate.ts.
import type { AttentionSettings } from '@spotlight/proto';
import { SamplingParams, TailMode } from '@spotlight/proto';
import { z } from 'zod';

const UINT32_MAX = 2 ** 32 - 1;

export const count = z.int().min(0).max(UINT32_MAX);
export const positive = z.int().min(1).max(UINT32_MAX);
const flag = z.boolean().nullish();

const attention = z.strictObject({
  backend: z.string().nullish(),
  fraction: z.number().gt(0).max(1).nullish(),
  tail: z.enum(['block-mean', 'none']).nullish(),
  dense_prefix_tokens: count.nullish(),
});

export const commonFields = {
  model: z.string().nullish(),
  stream: flag,
  stream_options: z
    .strictObject({ include_usage: flag, include_obfuscation: z.literal(false).nullish() })
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(-1).max(UINT32_MAX).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,10}$/, 'keys must be token ids'), z.number().min(-100).max(100))
    .nullish(),
  seed: z.int().nullish(),
  n: positive.max(128).nullish(),
  min_tokens: count.nullish(),
  stop: z.union([z.string(), z.array(z.string())], 'must be a string or an array of strings').nullish(),
  stop_token_ids: z.array(count).nullish(),
  ignore_eos: flag,
  return_token_ids: flag,
  timeout_ms: positive.nullish(),
  attention: attention.nullish(),
} as const;

export type CommonBody = z.output<z.ZodObject<typeof commonFields>>;

export interface LengthAndLogprobs {
  readonly maxTokens: number | undefined;
  readonly logprobs: number | undefined;
  readonly echo: boolean;
}

export function samplingOf(body: CommonBody, own: LengthAndLogprobs): SamplingParams {
  const sampling = SamplingParams.fromPartial({
    temperature: body.temperature ?? undefined,
    topP: body.top_p ?? undefined,
    topK: Math.max(0, body.top_k ?? 0), // vLLM writes -1 for "all".
    minP: body.min_p ?? undefined,
    presencePenalty: body.presence_penalty ?? undefined,
    frequencyPenalty: body.frequency_penalty ?? undefined,
    repetitionPenalty: body.repetition_penalty ?? undefined,
    // Seeds are any 64 bits; a client's negative one keeps its bits.
    seed: body.seed == null ? undefined : BigInt.asUintN(64, BigInt(body.seed)),
    maxTokens: own.maxTokens,
    minTokens: body.min_tokens ?? undefined,
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    stopTokenIds: body.stop_token_ids ?? [],
    ignoreEos: body.ignore_eos ?? undefined,
    logprobs: own.logprobs,
    n: body.n ?? undefined,
    echo: own.echo,
  });
  sampling.logitBias = body.logit_bias ?? {};
  return sampling;
}

const TAILS = { 'block-mean': TailMode.BLOCK_MEAN, none: TailMode.NONE } as const;

export function attentionOf(body: CommonBody): AttentionSettings | undefined {
  if (body.attention == null) return undefined;
  const { backend, fraction, tail, dense_prefix_tokens } = body.attention;
  return {
    backend: backend ?? undefined,
    fraction: fraction ?? undefined,
    tail: tail == null ? TailMode.UNSPECIFIED : TAILS[tail],
    densePrefixTokens: dense_prefix_tokens ?? undefined,
  };
}
