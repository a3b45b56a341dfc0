import type { AttentionSettings } from '@spotlight/proto';
import { SamplingParams, TailMode } from '@spotlight/proto';
import assert from 'node:assert/strict';
import type { Prompt } from './generation-request.js';
import { validateAttention, validatePrompt, validateSampling } from './validate.js';

const sampling = (over: Partial<SamplingParams>): SamplingParams => ({
  ...SamplingParams.fromPartial({}),
  ...over,
});

describe('validate', () => {
  const bad: [string, Partial<SamplingParams>][] = [
    ['sampling.temperature', { temperature: -0.1 }],
    ['sampling.temperature', { temperature: Number.NaN }],
    ['sampling.temperature', { temperature: Number.POSITIVE_INFINITY }],
    ['sampling.top_p', { topP: 0 }],
    ['sampling.top_p', { topP: 1.01 }],
    ['sampling.min_p', { minP: -0.1 }],
    ['sampling.presence_penalty', { presencePenalty: 2.1 }],
    ['sampling.frequency_penalty', { frequencyPenalty: -2.1 }],
    ['sampling.repetition_penalty', { repetitionPenalty: 0 }],
    ['sampling.logprobs', { logprobs: 21 }],
    ['sampling.n', { n: 0 }],
    ['sampling.n', { n: 129 }],
    ['sampling.max_tokens', { maxTokens: 0 }],
    ['sampling.min_tokens', { minTokens: 5, maxTokens: 4 }],
    ['sampling.stop', { stop: ['a', ''] }],
    ['sampling.logit_bias[7]', { logitBias: { 7: 101 } }],
  ];
  for (const [field, over] of bad) {
    it(`refuses ${field} in ${JSON.stringify(over)}`, () => {
      assert.throws(
        () => {
          validateSampling(sampling(over));
        },
        { field },
      );
    });
  }

  it('takes the ends of every range', () => {
    validateSampling(sampling({}));
    validateSampling(
      sampling({
        temperature: 0,
        topP: 1,
        minP: 0,
        presencePenalty: -2,
        frequencyPenalty: 2,
        logprobs: 0,
        n: 1,
      }),
    );
    validateSampling(
      sampling({ logprobs: 20, n: 128, maxTokens: 1, minTokens: 1, logitBias: { 0: -100, 1: 100 } }),
    );
  });

  it('allows no new token only where the prompt is echoed', () => {
    validateSampling(sampling({ maxTokens: 0, echo: true }));
    assert.throws(
      () => {
        validateSampling(sampling({ maxTokens: 0, echo: false }));
      },
      { field: 'sampling.max_tokens' },
    );
  });

  it('judges attention overrides', () => {
    const settings = (over: Partial<AttentionSettings>): AttentionSettings => ({
      tail: TailMode.UNSPECIFIED,
      ...over,
    });
    validateAttention(undefined);
    validateAttention(settings({ fraction: 1, backend: 'dense' }));
    assert.throws(
      () => {
        validateAttention(settings({ fraction: 0 }));
      },
      { field: 'attention.fraction' },
    );
    assert.throws(
      () => {
        validateAttention(settings({ backend: '' }));
      },
      { field: 'attention.backend' },
    );
    assert.throws(
      () => {
        validateAttention(settings({ tail: TailMode.UNRECOGNIZED }));
      },
      { field: 'attention.tail' },
    );
  });

  const prompts: [string, Prompt | undefined][] = [
    ['prompt', undefined],
    ['prompt', { $case: 'text', value: '' }],
    ['prompt', { $case: 'tokenIds', value: { ids: [] } }],
    ['messages', { $case: 'chat', value: { messages: [] } }],
    ['messages[0].role', { $case: 'chat', value: { messages: [{ role: '', content: 'x', name: '' }] } }],
    [
      'continue_final_message',
      {
        $case: 'chat',
        value: { messages: [{ role: 'user', content: 'x', name: '' }], continueFinalMessage: true },
      },
    ],
  ];
  for (const [field, prompt] of prompts) {
    it(`refuses the prompt ${JSON.stringify(prompt)}`, () => {
      assert.throws(
        () => {
          validatePrompt(prompt);
        },
        { field },
      );
    });
  }
});
