// Deltas into OpenAI objects, for both routes.
import type { Delta } from '@spotlight/proto';
import { Delta as DeltaOf, FinishReason } from '@spotlight/proto';
import assert from 'node:assert/strict';
import type { AnswerHead, AnswerShape } from './answer-shape.js';
import { ChatShape } from './chat-shape.js';
import { ChunkFrame } from './chunk-frame.js';
import { Collector } from './collector.js';
import { CompletionShape } from './completion-shape.js';

const head: AnswerHead = { id: 'x-1', created: 5, model: 'm', system_fingerprint: 'fp_1' };
const usage = { promptTokens: 3, completionTokens: 2, cachedTokens: 1 };
const plain = { logprobs: false, returnTokenIds: false, includeUsage: false };

const delta = (over: Partial<Delta>): Delta => DeltaOf.fromPartial(over);
const bytes = (text: string): Buffer => Buffer.from(text);

const tokens: Delta[] = [
  delta({
    tokenIds: [1],
    text: 'né',
    logprobs: [
      {
        tokenId: 1,
        token: bytes('né'),
        logprob: -0.5,
        top: [{ tokenId: 1, token: bytes('né'), logprob: -0.5 }],
      },
    ],
  }),
  delta({
    tokenIds: [2],
    text: '',
    logprobs: [{ tokenId: 2, token: Buffer.of(0xe6), logprob: Number.NEGATIVE_INFINITY, top: [] }],
  }),
  delta({
    tokenIds: [3],
    text: '漢',
    finishReason: FinishReason.STOP,
    stopReason: { $case: 'stopString', value: 'END' },
    logprobs: [{ tokenId: 3, token: Buffer.of(0xbc, 0xa2), logprob: -1, top: [] }],
  }),
];

function whole(shape: AnswerShape): unknown {
  const collector = new Collector();
  for (const one of tokens) collector.add(0, one);
  return shape.whole(head, collector.finished(), usage);
}

describe('answer shapes', () => {
  it('chat: role on the first chunk of each choice, no chunk without news', () => {
    const shape = new ChatShape(plain);
    assert.deepEqual(
      tokens.map((one) => shape.choice(0, one)),
      [
        { index: 0, delta: { role: 'assistant', content: 'né' }, logprobs: null, finish_reason: null },
        undefined,
        { index: 0, delta: { content: '漢' }, logprobs: null, finish_reason: 'stop', stop_reason: 'END' },
      ],
    );
    assert.deepEqual(shape.choice(1, delta({ finishReason: FinishReason.LENGTH })), {
      index: 1,
      delta: { role: 'assistant', content: '' },
      logprobs: null,
      finish_reason: 'length',
      stop_reason: null,
    });
  });

  it('chat: whole, with log-probabilities that JSON can hold', () => {
    assert.deepEqual(whole(new ChatShape({ ...plain, logprobs: true, returnTokenIds: true })), {
      ...head,
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'né漢', refusal: null },
          logprobs: {
            content: [
              {
                token: 'né',
                logprob: -0.5,
                bytes: [110, 195, 169],
                top_logprobs: [{ token: 'né', logprob: -0.5, bytes: [110, 195, 169] }],
              },
              { token: '\ufffd', logprob: -9999, bytes: [0xe6], top_logprobs: [] },
              { token: '\ufffd\ufffd', logprob: -1, bytes: [0xbc, 0xa2], top_logprobs: [] },
            ],
            refusal: null,
          },
          finish_reason: 'stop',
          stop_reason: 'END',
          token_ids: [1, 2, 3],
        },
      ],
      usage: {
        prompt_tokens: 3,
        completion_tokens: 2,
        total_tokens: 5,
        prompt_tokens_details: { cached_tokens: 1 },
      },
    });
  });

  it('completion: streamed log-probabilities add up to the whole ones', () => {
    const options = { ...plain, logprobs: true };
    const shape = new CompletionShape(options);
    const streamed = tokens.map((one) => shape.choice(0, one) as { logprobs: { text_offset: number[] } });
    assert.deepEqual(
      streamed.map(({ logprobs }) => logprobs.text_offset[0]),
      [0, 2, 3],
    );
    const { choices } = whole(new CompletionShape(options)) as {
      choices: { logprobs: { text_offset: number[] } }[];
    };
    assert.deepEqual(choices[0]?.logprobs.text_offset, [0, 2, 3]);
  });

  it('completion: the token drawn is among the top ones, ranked there or not', () => {
    const shape = new CompletionShape({ ...plain, logprobs: true });
    const top = [{ tokenId: 2, token: bytes('b'), logprob: -0.1 }];
    const drawn = delta({ text: 'a', logprobs: [{ tokenId: 1, token: bytes('a'), logprob: -3, top }] });
    const { logprobs } = shape.choice(0, drawn) as { logprobs: { top_logprobs: unknown[] } };
    assert.deepEqual(logprobs.top_logprobs, [{ b: -0.1, a: -3 }]);
  });

  it('completion: the first token of an echoed prompt has no log-probability', () => {
    const shape = new CompletionShape({ ...plain, logprobs: true });
    const first = delta({
      text: 'a',
      logprobs: [{ tokenId: 1, token: bytes('a'), logprob: undefined, top: [] }],
    });
    assert.deepEqual(shape.choice(0, first), {
      index: 0,
      text: 'a',
      logprobs: { tokens: ['a'], token_logprobs: [null], top_logprobs: [null], text_offset: [0] },
      finish_reason: null,
    });
  });

  it('a token whose text lags is told where ids are asked for', () => {
    assert.deepEqual(new ChatShape({ ...plain, returnTokenIds: true }).choice(0, delta({ tokenIds: [7] })), {
      index: 0,
      delta: { role: 'assistant', content: '' },
      logprobs: null,
      finish_reason: null,
      token_ids: [7],
    });
  });

  it('frames chunks as the objects they stand for', () => {
    const frame = new ChunkFrame(head, 'chat.completion.chunk', true);
    assert.deepEqual(JSON.parse(frame.chunk({ index: 0 })), {
      ...head,
      object: 'chat.completion.chunk',
      choices: [{ index: 0 }],
      usage: null,
    });
    const last = JSON.parse(frame.usage(usage)) as { choices: unknown[]; usage: { total_tokens: number } };
    assert.deepEqual([last.choices, last.usage.total_tokens], [[], 5]);
    assert.ok(!('usage' in (JSON.parse(new ChunkFrame(head, 'o', false).chunk({})) as object)));
  });

  it('does not pass a choice without a finish reason for finished', () => {
    const collector = new Collector();
    collector.add(0, delta({ text: 'a' }));
    assert.throws(() => collector.finished(), /without a finish reason/);
  });
});
