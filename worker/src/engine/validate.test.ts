import assert from 'node:assert/strict';
import { ErrorCode, SamplingParams, TailMode } from '@spotlight/proto';
import type { EngineRequest } from './api.js';
import { isRefusal, validate } from './validate.js';
import type { ResolvedRequest } from './validate.js';

const LIMITS = { model: { vocabSize: 100, maxModelLen: 512 }, blocks: 8, sequences: 16, selectors: false };

type Input = Partial<Omit<EngineRequest, 'sampling'>> & { readonly sampling?: Partial<SamplingParams> };

function check({ sampling, ...rest }: Input, limits = LIMITS): ReturnType<typeof validate> {
  const request: EngineRequest = {
    requestId: 'r',
    promptTokens: [1, 2, 3],
    attention: undefined,
    resume: new Map(),
    credits: undefined,
    deadline: undefined,
    artifactDigest: '',
    ...rest,
    sampling: SamplingParams.fromPartial({ ...sampling }),
  };
  return validate(request, limits, 42n);
}

function resolved(input: Input, limits = LIMITS): ResolvedRequest {
  const result = check(input, limits);
  assert(!isRefusal(result), isRefusal(result) ? result.message : '');
  return result;
}

describe('validate', () => {
  it('fills every default', () => {
    const { sampling, attention } = resolved({});
    assert.deepEqual(sampling, {
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: undefined,
      seed: 42n,
      maxTokens: 509,
      minTokens: 0,
      stop: [],
      stopTokenIds: new Set(),
      ignoreEos: false,
      logprobs: undefined,
      n: 1,
      echo: false,
    });
    assert.deepEqual(attention, { densePrefixTokens: undefined });
  });

  it('keeps what is given, and cuts max_tokens to the context', () => {
    const { sampling } = resolved({
      sampling: { seed: 7n, maxTokens: 10_000, logitBias: { 5: -2 }, logprobs: 0 },
    });
    assert.equal(sampling.seed, 7n);
    assert.equal(sampling.maxTokens, 509);
    assert.deepEqual(sampling.logitBias, new Map([[5, -2]]));
    assert.equal(sampling.logprobs, 0);
  });

  it('cuts max_tokens to what the pool leaves each choice, full prompt blocks counted once', () => {
    // 8 blocks, 1 of them shared: 7 for 3 choices, 2 each; so 3 blocks a choice.
    const promptTokens = Array.from({ length: 100 }, () => 1);
    assert.equal(resolved({ promptTokens, sampling: { n: 3 } }).sampling.maxTokens, 3 * 64 - 100);
    const limits = { ...LIMITS, blocks: 4 };
    assert.equal(resolved({ promptTokens }, limits).sampling.maxTokens, 4 * 64 - 100);
  });

  it('reads attention overrides', () => {
    const { attention } = resolved({
      attention: { backend: 'dense', fraction: 0.5, tail: TailMode.NONE, densePrefixTokens: 0 },
    });
    assert.deepEqual(attention, { backend: 'dense', fraction: 0.5, tail: 'none', densePrefixTokens: 0 });
  });

  it('takes evaluation selectors where they are offered, and lists them', () => {
    const attention = { backend: 'quest', tail: TailMode.UNSPECIFIED };
    const offered = { ...LIMITS, selectors: true };
    assert.equal(resolved({ attention }, offered).attention.backend, 'quest');
    const unknown = check({ attention: { ...attention, backend: 'fast' } }, offered);
    assert(isRefusal(unknown) && unknown.message.includes('"quest"'));
    const plain = check({ attention });
    assert(isRefusal(plain) && plain.message.includes('"dense" or "spotlight"; this worker does not offer'));
  });

  const refused: readonly (readonly [string, Input])[] = [
    ['prompt', { promptTokens: [] }],
    ['prompt', { promptTokens: [1, 100] }],
    ['prompt', { promptTokens: [-1] }],
    ['prompt', { promptTokens: [1.5] }],
    ['sampling.temperature', { sampling: { temperature: -0.1 } }],
    ['sampling.temperature', { sampling: { temperature: NaN } }],
    ['sampling.temperature', { sampling: { temperature: Infinity } }],
    ['sampling.top_p', { sampling: { topP: 0 } }],
    ['sampling.top_p', { sampling: { topP: 1.01 } }],
    ['sampling.min_p', { sampling: { minP: -1 } }],
    ['sampling.top_k', { sampling: { topK: -1 } }],
    ['sampling.presence_penalty', { sampling: { presencePenalty: 2.1 } }],
    ['sampling.frequency_penalty', { sampling: { frequencyPenalty: -2.1 } }],
    ['sampling.repetition_penalty', { sampling: { repetitionPenalty: 0 } }],
    ['sampling.repetition_penalty', { sampling: { repetitionPenalty: 1001 } }],
    ['sampling.logit_bias', { sampling: { logitBias: { 100: 1 } } }],
    ['sampling.logit_bias[3]', { sampling: { logitBias: { 3: 101 } } }],
    ['sampling.max_tokens', { sampling: { maxTokens: -1 } }],
    ['sampling.min_tokens', { sampling: { maxTokens: 4, minTokens: 5 } }],
    ['sampling.stop', { sampling: { stop: [''] } }],
    ['sampling.stop', { sampling: { stop: ['x'.repeat(1025)] } }],
    ['sampling.stop', { sampling: { stop: Array.from({ length: 17 }, () => 'x') } }],
    ['sampling.stop_token_ids', { sampling: { stopTokenIds: [100] } }],
    ['sampling.logprobs', { sampling: { logprobs: 21 } }],
    ['sampling.n', { sampling: { n: 0 } }],
    ['sampling.n', { sampling: { n: 17 } }],
    ['sampling.n', { sampling: { n: 9 } }],
    ['attention.backend', { attention: { backend: 'quest', tail: TailMode.UNSPECIFIED } }],
    ['attention.fraction', { attention: { fraction: 0, tail: TailMode.UNSPECIFIED } }],
    ['attention.tail', { attention: { tail: TailMode.UNRECOGNIZED } }],
    ['attention.dense_prefix_tokens', { attention: { tail: TailMode.UNSPECIFIED, densePrefixTokens: -1 } }],
    ['resume.choice', { resume: new Map([[1, { tokenIds: [], emittedChars: 0 }]]) }],
    ['resume.token_ids', { resume: new Map([[0, { tokenIds: [100], emittedChars: 0 }]]) }],
  ];
  for (const [field, input] of refused) {
    it(`refuses ${JSON.stringify({ ...input, resume: [...(input.resume ?? [])] }).slice(0, 80)} naming ${field}`, () => {
      const result = check(input);
      assert(isRefusal(result));
      assert.equal(result.field, field);
      assert.equal(result.code, ErrorCode.INVALID_ARGUMENT);
      assert(result.message.startsWith(field) && !result.retryable, result.message);
    });
  }

  it('names the limit of a prompt too long, and whose it is', () => {
    const promptTokens = Array.from({ length: 512 }, () => 1);
    const model = check({ promptTokens });
    assert(isRefusal(model));
    assert.equal(model.code, ErrorCode.PROMPT_TOO_LONG);
    assert.match(model.message, /512 tokens, the limit is 511 .*context/);
    const pool = check({ promptTokens }, { ...LIMITS, blocks: 4 });
    assert(isRefusal(pool));
    assert.match(pool.message, /the limit is 255 .*pool/);
  });
});
