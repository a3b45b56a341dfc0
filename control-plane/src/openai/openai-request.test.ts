// Bodies into requests: every refusal names its field as the client wrote it, and what passes arrives unchanged.
import { TailMode } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { ServiceError } from '../errors/service-error.js';
import { readChatRequest } from './chat-request.js';
import { readCompletionRequest } from './completion-request.js';

const messages = [{ role: 'user', content: 'hi' }];

function refused(read: () => unknown): { field: string | undefined; code: string | null; message: string } {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof ServiceError, String(error));
    return { field: error.field, code: error.openaiCode, message: error.message };
  }
  return assert.fail('the body was accepted');
}

describe('chat body', () => {
  const bad: [field: string, code: string, body: Record<string, unknown>][] = [
    ['messages', 'missing_required_parameter', {}],
    ['messages', 'invalid_type', { messages: 'hi' }],
    ['messages', 'invalid_value', { messages: [] }],
    ['messages[0]', 'invalid_type', { messages: ['hi'] }],
    ['messages[0].role', 'invalid_value', { messages: [{ content: 'x' }] }],
    ['messages[0].role', 'invalid_value', { messages: [{ role: 'tool', content: 'x' }] }],
    ['messages[0].role', 'invalid_value', { messages: [{ role: 'constructor', content: 'x' }] }],
    [
      'messages[1].content',
      'missing_required_parameter',
      { messages: [...messages, { role: 'assistant', content: null }] },
    ],
    ['messages[0].content', 'invalid_type', { messages: [{ role: 'user', content: 5 }] }],
    [
      'messages[0].content[0].type',
      'unsupported_parameter',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
    ],
    [
      'messages[0].content[0].text',
      'invalid_type',
      { messages: [{ role: 'user', content: [{ type: 'text' }] }] },
    ],
    [
      'messages[0].tool_calls',
      'unsupported_parameter',
      { messages: [{ role: 'assistant', content: 'x', tool_calls: [{ id: '1' }] }] },
    ],
    ['max_tokens', 'invalid_value', { messages, max_tokens: -1 }],
    ['max_tokens', 'invalid_value', { messages, max_tokens: 0 }],
    ['max_tokens', 'invalid_type', { messages, max_tokens: 1.5 }],
    ['max_tokens', 'invalid_type', { messages, max_tokens: '5' }],
    ['max_tokens', 'invalid_value', { messages, max_tokens: 2 ** 33 }],
    ['max_tokens', 'invalid_value', { messages, max_tokens: 5, max_completion_tokens: 6 }],
    ['temperature', 'invalid_value', { messages, temperature: 2.1 }],
    ['temperature', 'invalid_value', { messages, temperature: -1 }],
    ['top_p', 'invalid_value', { messages, top_p: 0 }],
    ['n', 'invalid_value', { messages, n: 0 }],
    ['n', 'invalid_value', { messages, n: 129 }],
    ['stop', 'invalid_value', { messages, stop: 5 }],
    ['stop', 'invalid_value', { messages, stop: [1] }],
    ['seed', 'invalid_type', { messages, seed: 0.5 }],
    ['logit_bias.5', 'invalid_value', { messages, logit_bias: { 5: 101 } }],
    ['logit_bias.x', 'invalid_value', { messages, logit_bias: { x: 1 } }],
    ['logprobs', 'invalid_type', { messages, logprobs: 5 }],
    ['top_logprobs', 'invalid_value', { messages, top_logprobs: 5 }],
    ['top_logprobs', 'invalid_value', { messages, logprobs: true, top_logprobs: 21 }],
    ['stream_options.foo', 'unknown_parameter', { messages, stream_options: { foo: 1 } }],
    ['attention.fraction', 'invalid_value', { messages, attention: { fraction: 0 } }],
    ['attention.tail', 'invalid_value', { messages, attention: { tail: 'mean' } }],
    ['attention.colour', 'unknown_parameter', { messages, attention: { colour: 1 } }],
    ['stop_token_ids[1]', 'invalid_value', { messages, stop_token_ids: [1, -1] }],
    ['tools', 'unsupported_parameter', { messages, tools: [{ type: 'function' }] }],
    ['response_format', 'unsupported_parameter', { messages, response_format: { type: 'json_object' } }],
    ['audio', 'unsupported_parameter', { messages, audio: { voice: 'x' } }],
    ['modalities', 'unsupported_parameter', { messages, modalities: ['text', 'audio'] }],
    ['store', 'unsupported_parameter', { messages, store: true }],
    ['guided_json', 'unsupported_parameter', { messages, guided_json: {} }],
    ['temprature', 'unknown_parameter', { messages, temprature: 1 }],
    [
      '__proto__',
      'unknown_parameter',
      JSON.parse('{"messages":[{"role":"user","content":"x"}],"__proto__":{}}') as Record<string, unknown>,
    ],
  ];
  for (const [field, code, body] of bad) {
    it(`refuses ${field}: ${JSON.stringify(body).slice(0, 90)}`, () => {
      const error = refused(() => readChatRequest(body));
      assert.deepEqual([error.field, error.code], [field, code], error.message);
      assert.ok(error.message.includes(field.replace(/\.(x|5|foo|colour)$/, '')), error.message);
    });
  }

  it('refuses what is no object', () => {
    for (const body of [undefined, null, [], 'x', 5]) refused(() => readChatRequest(body));
  });

  it('carries every parameter over', () => {
    const request = readChatRequest({
      model: 'm',
      messages,
      temperature: 0,
      top_p: 0.5,
      top_k: 40,
      min_p: 0.1,
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.25,
      logit_bias: { '17': -100 },
      seed: 42,
      n: 2,
      max_completion_tokens: 9,
      min_tokens: 3,
      stop: 'END',
      stop_token_ids: [2],
      ignore_eos: true,
      logprobs: true,
      top_logprobs: 4,
      stream: true,
      stream_options: { include_usage: true },
      return_token_ids: true,
      timeout_ms: 1000,
      attention: { backend: 'spotlight', fraction: 0.5, tail: 'none', dense_prefix_tokens: 0 },
    });
    assert.deepEqual(request, {
      model: 'm',
      prompts: [
        {
          $case: 'chat',
          value: {
            messages: [{ role: 'user', content: 'hi', name: '' }],
            addGenerationPrompt: undefined,
            continueFinalMessage: undefined,
          },
        },
      ],
      sampling: {
        temperature: 0,
        topP: 0.5,
        topK: 40,
        minP: 0.1,
        presencePenalty: 1,
        frequencyPenalty: -1,
        repetitionPenalty: 1.25,
        logitBias: { '17': -100 },
        seed: 42n,
        n: 2,
        maxTokens: 9,
        minTokens: 3,
        stop: ['END'],
        stopTokenIds: [2],
        ignoreEos: true,
        logprobs: 4,
        echo: false,
      },
      attention: { backend: 'spotlight', fraction: 0.5, tail: TailMode.NONE, densePrefixTokens: 0 },
      timeoutMs: 1000,
      stream: true,
      logprobs: true,
      includeUsage: true,
      returnTokenIds: true,
    });
  });

  it('takes nulls, empty lists and fields that ask for nothing', () => {
    readChatRequest({
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'be ' },
            { type: 'text', text: 'brief' },
          ],
        },
        { role: 'assistant', content: 'ok', refusal: null, tool_calls: [], audio: null },
        { role: 'user', content: 'hi', name: 'ada' },
      ],
      temperature: null,
      stop: null,
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      modalities: ['text'],
      user: 'u',
      metadata: { a: 'b' },
      store: false,
      parallel_tool_calls: true,
      skip_special_tokens: true,
      top_k: -1,
    });
  });

  it('knows developer as system and joins text parts', () => {
    const { prompts } = readChatRequest({
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
    });
    assert.deepEqual(prompts[0]?.$case === 'chat' ? prompts[0].value.messages : [], [
      { role: 'system', content: 'ab', name: '' },
    ]);
  });

  it('keeps the bits of a negative seed', () => {
    assert.equal(readChatRequest({ messages, seed: -1 }).sampling.seed, 2n ** 64n - 1n);
  });
});

describe('completion body', () => {
  const bad: [field: string, body: Record<string, unknown>][] = [
    ['prompt', {}],
    ['prompt', { prompt: 5 }],
    ['prompt', { prompt: [] }],
    ['prompt[1]', { prompt: [1, 'x'] }],
    ['prompt[1]', { prompt: ['x', 1] }],
    ['prompt[0]', { prompt: [-1] }],
    ['prompt[0]', { prompt: [1.5] }],
    ['prompt[1][0]', { prompt: [[1], ['x']] }],
    ['best_of', { prompt: 'x', best_of: 2 }],
    ['suffix', { prompt: 'x', suffix: 'y' }],
    ['logprobs', { prompt: 'x', logprobs: true }],
    ['logprobs', { prompt: 'x', logprobs: 21 }],
    ['prompt', { prompt: Array.from({ length: 129 }, () => 'x') }],
  ];
  for (const [field, body] of bad) {
    it(`refuses ${field}: ${JSON.stringify(body).slice(0, 80)}`, () => {
      const error = refused(() => readCompletionRequest(body));
      assert.equal(error.field, field, error.message);
    });
  }

  it('reads text, token ids and arrays of either', () => {
    const cases = (prompt: unknown): unknown[] => [...readCompletionRequest({ prompt }).prompts];
    assert.deepEqual(cases('a'), [{ $case: 'text', value: 'a' }]);
    assert.deepEqual(cases([1, 2]), [{ $case: 'tokenIds', value: { ids: [1, 2] } }]);
    assert.deepEqual(cases(['a', [3]]), [
      { $case: 'text', value: 'a' },
      { $case: 'tokenIds', value: { ids: [3] } },
    ]);
  });

  it('defaults to 16 tokens and takes logprobs as a number', () => {
    const { sampling } = readCompletionRequest({ prompt: 'x', logprobs: 0, echo: true, best_of: 1 });
    assert.deepEqual([sampling.maxTokens, sampling.logprobs, sampling.echo], [16, 0, true]);
    assert.equal(readCompletionRequest({ prompt: 'x' }).sampling.logprobs, undefined);
  });

  it('reads a million token ids without blocking for long', () => {
    const prompt = Array.from({ length: 1_000_000 }, (_, index) => index % 50_000);
    const start = performance.now();
    readCompletionRequest({ prompt });
    const ms = performance.now() - start;
    assert.ok(ms < 500, `took ${ms} ms`);
  });
});
