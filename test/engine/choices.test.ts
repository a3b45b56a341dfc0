// What a choice is made of, on the fake: phases, forks, resumed tokens, echo, log-probabilities, seeds, two steps in
// flight. Each looks at the batches the native engine saw where the tokens alone would not tell.
import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { BatchRow } from '@spotlight/cuda';
import { FinishReason, TailMode } from '@spotlight/proto';
import { FakeEngine } from '../fakes/engine.js';
import { Harness, alone } from './harness.js';
import { record } from './recording.js';
import { reference } from './reference.js';

const prompt = (length: number, salt = 0): number[] =>
  Array.from({ length }, (_, i) => 1 + ((i * 7 + salt) % 200));
const FAKE = { artifacts: ['aa'], eosTokenIds: [] };

const spans = (rows: readonly BatchRow[]): [number, number, string, boolean][] =>
  rows.map(({ position, tokens, phase, sample }) => [position, tokens.length, phase, sample]);

describe('the phase of a token', () => {
  it('is prompt for the prompt and generated for what is drawn', async () => {
    const [harness, native] = record({ ...FAKE, maxBatchTokens: 32 });
    await harness.start({ promptTokens: prompt(70), sampling: { maxTokens: 3 } }).done;
    assert.deepEqual(spans(native.rows).slice(0, 5), [
      [0, 32, 'prompt', false],
      [32, 32, 'prompt', false],
      [64, 6, 'prompt', true],
      [70, 1, 'generated', true],
      [71, 1, 'generated', true],
    ]);
    await harness.stop();
  });

  it('is prompt for the one token a prefix hit leaves', async () => {
    const [harness, native] = record(FAKE);
    await harness.start({ promptTokens: prompt(65), sampling: { maxTokens: 1 } }).done;
    await harness.start({ promptTokens: prompt(65), sampling: { maxTokens: 1 } }).done;
    assert.deepEqual(spans(native.rows).at(-1), [64, 1, 'prompt', true]);
    await harness.stop();
  });

  it('is generated for the prompt beyond dense_prefix_tokens', async () => {
    const [harness, native] = record(FAKE);
    const attention = { densePrefixTokens: 20, tail: TailMode.UNSPECIFIED };
    await harness.start({ promptTokens: prompt(30), attention, sampling: { maxTokens: 1 } }).done;
    assert.deepEqual(spans(native.rows).slice(0, 2), [
      [0, 20, 'prompt', false],
      [20, 10, 'generated', true],
    ]);
    await harness.stop();
  });

  it('is kept by tokens that run again after a preemption', async () => {
    const [harness, native] = record({ ...FAKE, blocks: 4 });
    const input = { sampling: { maxTokens: 100, ignoreEos: true } };
    const seen = [
      harness.start({ ...input, promptTokens: prompt(60) }),
      harness.start({ ...input, promptTokens: prompt(60, 1) }),
    ];
    await Promise.all(seen.map((one) => one.done));
    assert(harness.preemptions > 0);
    const again = native.rows.filter(({ tokens, phase }) => phase === 'generated' && tokens.length > 1);
    assert(again.length > 0 && again.every(({ position }) => position >= 60));
    await harness.idle();
    await harness.stop();
  });
});

describe('two steps in flight', () => {
  it('feeds the last sample without knowing it, and drops one token after a stop', async () => {
    const [harness, native] = record(FAKE);
    const { choices } = await harness.start({
      sampling: { maxTokens: 50, logitBias: { 9: 100 }, stopTokenIds: [9] },
    }).done;
    assert.deepEqual(choices[0]?.tokens, [9]);
    await harness.idle();
    assert.deepEqual(
      native.rows.map(({ tokens }) => Array.from(tokens)),
      [[1, 2, 3], [LAST_SAMPLE]],
    );
    await harness.stop();
  });

  it('draws no token beyond max_tokens', async () => {
    const [harness, native] = record(FAKE);
    await harness.start({ sampling: { maxTokens: 5 } }).done;
    await harness.idle();
    assert.equal(native.rows.filter(({ sample }) => sample).length, 5);
    await harness.stop();
  });
});

describe('n > 1', function () {
  this.timeout(30_000);

  it('computes the prompt once and shares its full blocks', async () => {
    const [harness, native] = record(FAKE);
    const seen = harness.start({
      promptTokens: prompt(200),
      sampling: { n: 4, maxTokens: 400, ignoreEos: true },
    });
    await setTimeout(30);
    const { freeBlocks, totalBlocks } = harness.engine.load();
    const longest = Math.max(...seen.choices.map(({ tokens }) => tokens.length));
    assert(totalBlocks - freeBlocks <= 3 + 4 * Math.ceil((200 + longest + 3 - 192) / 64));
    const prefilled = native.rows
      .filter(({ phase }) => phase === 'prompt')
      .reduce((sum, { tokens }) => sum + tokens.length, 0);
    assert.equal(prefilled, 199 + 4);
    assert.equal(native.batches.flatMap(({ copies = [] }) => copies).length, 3);
    await seen.done;
    await harness.idle();
    await harness.stop();
  });

  it('copies nothing where the last prompt token opens a block', async () => {
    const [harness, native] = record(FAKE);
    await harness.start({ promptTokens: prompt(129), sampling: { n: 3, maxTokens: 2 } }).done;
    assert.equal(native.batches.flatMap(({ copies = [] }) => copies).length, 0);
    await harness.stop();
  });

  it('gives each choice what it gives under its index alone, and choice 0 what n = 1 gives', async () => {
    for (const length of [1, 5, 64, 65, 100]) {
      const input = { promptTokens: prompt(length), sampling: { n: 3, maxTokens: 70, ignoreEos: true } };
      const harness = new Harness(FAKE);
      const seen = await harness.start(input).done;
      const expected = await reference(harness.request(input), new FakeEngine(FAKE), harness.texts);
      assert.deepEqual(
        seen.choices.map(({ tokens }) => tokens),
        expected.map(({ tokens }) => tokens),
      );
      assert.equal(new Set(seen.choices.map(({ tokens }) => tokens.join())).size, 3);
      const single = await alone({ ...input, sampling: { ...input.sampling, n: 1 } }, FAKE);
      assert.deepEqual(single.choice(0).tokens, seen.choice(0).tokens);
      assert.equal(seen.usage?.completionTokens, 210);
      await harness.idle();
      await harness.stop();
    }
  });
});

describe('resume', () => {
  const input = {
    promptTokens: prompt(80),
    sampling: { n: 2, maxTokens: 90, ignoreEos: true, frequencyPenalty: 0.5, stop: ['abab'] },
  };

  for (const taken of [0, 1, 30, 64, 89]) {
    it(`continues after ${taken} tokens of each choice as if nothing had happened`, async () => {
      const whole = await alone(input, FAKE);
      const harness = new Harness(FAKE);
      const held = 3;
      const parts = whole.choices.map(({ tokens }) => {
        const tokenIds = tokens.slice(0, taken);
        return { tokenIds, emittedChars: Math.max(0, harness.texts.text(tokenIds).length - held) };
      });
      // Text the client had cannot be longer than the choice's own.
      const resume = new Map(
        parts.map((part, i) => [
          i,
          { ...part, emittedChars: Math.min(part.emittedChars, whole.choice(i).text.length) },
        ]),
      );
      const { choices, usage } = await harness.start({ ...input, resume }).done;
      whole.choices.forEach((expected, i) => {
        const { emittedChars, tokenIds } = resume.get(i) ?? assert.fail();
        const seen = choices[i] ?? assert.fail();
        assert.deepEqual([...tokenIds, ...seen.tokens], expected.tokens);
        assert.equal(expected.text.slice(0, emittedChars) + seen.text, expected.text);
        assert.equal(seen.finish, expected.finish);
      });
      assert.equal(usage?.completionTokens, whole.usage?.completionTokens);
      await harness.idle();
      await harness.stop();
    });
  }

  it('ends at once when the tokens were all there', async () => {
    const whole = await alone(input, FAKE);
    const harness = new Harness(FAKE);
    const resume = new Map(whole.choices.map(({ tokens }, i) => [i, { tokenIds: tokens, emittedChars: 0 }]));
    const { choices } = await harness.start({ ...input, resume }).done;
    assert.deepEqual(
      choices.map(({ text, finish, tokens }) => [text, finish, tokens]),
      whole.choices.map(({ text, finish }) => [text, finish, []]),
    );
    assert.equal(harness.native.stats().steps, 0);
    await harness.idle();
    await harness.stop();
  });
});

describe('resume of what echoes, or has ended in part', () => {
  const input = {
    promptTokens: prompt(70),
    sampling: { n: 3, maxTokens: 40, ignoreEos: true, echo: true, logprobs: 1, stop: ['ba'] },
  };

  it('tells no echo twice, and of a choice that has ended nothing', async () => {
    const whole = await alone(input, FAKE);
    const drawn = whole.choices.map(({ tokens }) => tokens.slice(input.promptTokens.length));
    const echoed = new Harness(FAKE);
    const promptText = echoed.texts.text(input.promptTokens);
    await echoed.stop();
    const lengths = drawn.map(({ length }) => length);
    const first = lengths.indexOf(Math.min(...lengths));
    const [ended, begun, fresh] = [first, (first + 1) % 3, (first + 2) % 3];
    const kept = (drawn[begun]?.length ?? 0) >> 1;
    assert.ok(kept > 0, 'a choice is lost in the middle');

    const harness = new Harness(FAKE);
    const seen = await harness.start({
      ...input,
      resume: new Map([
        [
          ended,
          { tokenIds: drawn[ended] ?? [], emittedChars: whole.choice(ended).text.length, finished: true },
        ],
        [begun, { tokenIds: drawn[begun]?.slice(0, kept) ?? [], emittedChars: promptText.length }],
      ]),
    }).done;
    assert.ok(seen.updates.every(({ deltas }) => deltas.every(({ choice }) => choice !== ended)));
    assert.deepEqual(seen.choice(begun).tokens, drawn[begun]?.slice(kept));
    assert.equal(promptText + seen.choice(begun).text, whole.choice(begun).text);
    assert.equal(seen.choice(begun).logprobs.length, seen.choice(begun).tokens.length);
    for (const part of ['tokens', 'text', 'logprobs', 'finish', 'stop'] as const) {
      assert.deepEqual(seen.choice(fresh)[part], whole.choice(fresh)[part], part);
    }
    assert.equal(seen.usage?.completionTokens, whole.usage?.completionTokens);
    await harness.idle();
    await harness.stop();
  });

  it('only says done when every choice had ended', async () => {
    const harness = new Harness(FAKE);
    const resume = new Map([0, 1, 2].map((i) => [i, { tokenIds: [5, 6], emittedChars: 9, finished: true }]));
    const { updates, usage } = await harness.start({ ...input, resume }).done;
    assert.deepEqual(
      updates.map(({ deltas, done }) => [deltas, done]),
      [[[], true]],
    );
    assert.equal(usage?.completionTokens, 6);
    assert.equal(harness.native.stats().steps, 0);
    await harness.idle();
    await harness.stop();
  });
});

describe('echo', () => {
  it('puts the prompt before the first token of each choice', async () => {
    const harness = new Harness(FAKE);
    const input = { promptTokens: prompt(20), sampling: { n: 2, maxTokens: 3 } };
    const plain = await harness.start(input).done;
    const echoed = await harness.start({ ...input, sampling: { ...input.sampling, echo: true } }).done;
    plain.choices.forEach((choice, i) => {
      assert.deepEqual(echoed.choice(i).tokens, [...input.promptTokens, ...choice.tokens]);
      assert.equal(echoed.choice(i).text, harness.texts.text(input.promptTokens) + choice.text);
    });
    await harness.stop();
  });

  it('reads log-probabilities of the whole prompt although it is cached, the first token without one', async () => {
    const harness = new Harness({ ...FAKE, maxBatchTokens: 48 });
    const input = { promptTokens: prompt(150), sampling: { maxTokens: 2, logprobs: 2, echo: true } };
    await harness.start({ ...input, sampling: { maxTokens: 2 } }).done;
    const { choices, usage } = await harness.start(input).done;
    const { logprobs, tokens } = choices[0] ?? assert.fail();
    assert.equal(usage?.cachedTokens, 0);
    assert.deepEqual(
      logprobs.map(({ tokenId }) => tokenId),
      tokens,
    );
    assert.deepEqual(
      logprobs.map(({ logprob }) => logprob === undefined),
      tokens.map((_, i) => i === 0),
    );
    assert(logprobs.slice(1).every(({ top }) => top.length === 2));
    await harness.stop();
  });

  it('scores a prompt without drawing for max_tokens 0', async () => {
    const [harness, native] = record(FAKE);
    const { choices, usage } = await harness.start({
      promptTokens: prompt(10),
      sampling: { maxTokens: 0, logprobs: 0, echo: true },
    }).done;
    assert.equal(choices[0]?.tokens.length, 10);
    assert.equal(choices[0].finish, FinishReason.LENGTH);
    assert.equal(usage?.completionTokens, 0);
    assert(native.rows.every(({ sample }) => !sample));
    await harness.idle();
    await harness.stop();
  });
});

describe('the prefix cache', () => {
  const follow = async (
    attention: { backend?: string; fraction?: number; tail: TailMode.UNSPECIFIED } | undefined,
  ): Promise<number> => {
    const harness = new Harness(FAKE);
    const first = await harness.start({ promptTokens: prompt(100), attention, sampling: { maxTokens: 100 } })
      .done;
    const promptTokens = [...prompt(100), ...first.choice(0).tokens, 1];
    const second = await harness.start({ promptTokens, attention, sampling: { maxTokens: 1 } }).done;
    await harness.stop();
    return second.usage?.cachedTokens ?? 0;
  };

  it('finds an answer in the next prompt where it was computed densely', async () => {
    assert.equal(await follow({ backend: 'dense', tail: TailMode.UNSPECIFIED }), 192);
  });

  it('does not take sparsely computed tokens for a prompt', async () => {
    assert.equal(await follow(undefined), 64);
  });

  it('is forgotten when asked to be', async () => {
    const harness = new Harness(FAKE);
    await harness.start({ promptTokens: prompt(200) }).done;
    harness.engine.forgetPrefixes();
    assert.equal((await harness.start({ promptTokens: prompt(200) }).done).usage?.cachedTokens, 0);
    assert.equal((await harness.start({ promptTokens: prompt(200) }).done).usage?.cachedTokens, 192);
    await harness.idle();
    await harness.stop();
  });
});

describe('seeds', () => {
  it('give the same tokens in any company', async () => {
    const input = { promptTokens: prompt(50), sampling: { seed: 123n, maxTokens: 60, ignoreEos: true } };
    const expected = (await alone(input, FAKE)).choice(0).tokens;
    const harness = new Harness({ ...FAKE, blocks: 20, maxSequences: 6 });
    const others = Array.from({ length: 20 }, (_, i) =>
      harness.start({ promptTokens: prompt(30 + i, i), sampling: { maxTokens: 40 + i } }),
    );
    await setTimeout(5);
    const seen = [harness.start(input), harness.start(input)];
    for (const one of [...seen, ...others]) await one.done;
    for (const one of seen) assert.deepEqual(one.choice(0).tokens, expected);
    const other = await alone({ ...input, sampling: { ...input.sampling, seed: 124n } }, FAKE);
    assert.notDeepEqual(other.choice(0).tokens, expected);
    await harness.stop();
  });
});
