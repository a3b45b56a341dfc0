// The whole engine under random load in a pool far too small for it: whatever is admitted, preempted, forked, paused or
// cancelled meanwhile, a request that ends must have given exactly what it gives alone, and when all is over every
// block is free or cached.
import assert from 'node:assert/strict';
import { FinishReason } from '@spotlight/proto';
import type { EngineRequest } from '@spotlight/worker/engine/api.js';
import type { FakeEngineOptions } from '../fakes/engine.js';
import { FakeEngine } from '../fakes/engine.js';
import { Dice } from './dice.js';
import { Harness } from './harness.js';
import type { ChoiceSeen, RequestInput, Seen } from './harness.js';
import { reference } from './reference.js';
import type { Expected } from './reference.js';

const VOCAB = 96;
const FAKE: FakeEngineOptions = { vocabSize: VOCAB, eosTokenIds: [3], artifacts: ['aa'], maxModelLen: 700 };

type Load = 'mixed' | 'long answers';

function randomInput(dice: Dice, prefixes: readonly (readonly number[])[], load: Load): RequestInput {
  const long = load === 'long answers';
  const own = Array.from({ length: dice.int(1, long ? 20 : 90) }, () => dice.int(0, VOCAB - 1));
  const promptTokens = dice.chance(long ? 0.1 : 0.4)
    ? [...dice.pick(prefixes).slice(0, dice.int(1, 300)), ...own]
    : own;
  const maybe = <T>(probability: number, value: () => T): T | undefined =>
    dice.chance(probability) ? value() : undefined;
  return {
    promptTokens,
    credits: maybe(0.3, () => dice.int(1, 6)),
    attention: maybe(0.3, () => ({
      backend: maybe(0.4, () => dice.pick(['dense', 'spotlight'])),
      fraction: maybe(0.4, () => 0.5),
      tail: dice.int(0, 2),
      densePrefixTokens: maybe(0.5, () => dice.int(0, promptTokens.length + 5)),
    })),
    sampling: {
      seed: BigInt(dice.int(0, 5)),
      temperature: dice.pick([0, 1]),
      maxTokens: dice.chance(0.04) ? 0 : dice.int(1, long ? 400 : 150),
      minTokens: 0,
      n: dice.chance(0.3) ? dice.int(2, 4) : 1,
      stop: !long && dice.chance(0.3) ? [dice.pick(['abc', 'ba b', 'the', '🙂', 'bb.', 'aabab'])] : [],
      stopTokenIds: !long && dice.chance(0.2) ? [dice.int(0, VOCAB - 1)] : [],
      ignoreEos: long || dice.chance(0.5),
      echo: dice.chance(0.15),
      logprobs: maybe(0.2, () => dice.int(0, 3)),
      frequencyPenalty: maybe(0.15, () => 0.5),
      repetitionPenalty: maybe(0.15, () => 1.1),
    },
  };
}

/** Minimum tokens only where they can hold. */
function withMinTokens(dice: Dice, input: RequestInput): RequestInput {
  const most = input.sampling?.maxTokens ?? 0;
  return dice.chance(0.2)
    ? { ...input, sampling: { ...input.sampling, minTokens: dice.int(0, most) } }
    : input;
}

function checkChoice(seen: ChoiceSeen, expected: Expected, what: string): void {
  assert.deepEqual(seen.tokens, expected.tokens, `${what}: tokens`);
  assert.equal(seen.text, expected.text, `${what}: text`);
  assert.equal(seen.finish, expected.finish, `${what}: finish reason`);
  assert.deepEqual(seen.stop?.value, expected.stop, `${what}: stop reason`);
  assert.deepEqual(
    seen.logprobs.map(({ tokenId, logprob, top }) => [tokenId, logprob, top.map((entry) => entry.tokenId)]),
    expected.logprobs.map((entry, i) => [
      entry?.token ?? expected.tokens[i],
      entry?.logprob,
      [...(entry?.topTokens ?? [])],
    ]),
    `${what}: logprobs`,
  );
}

/** A client that reads at its own pace, and sometimes loses patience. */
async function live(
  harness: Harness,
  dice: Dice,
  seen: Seen,
  request: EngineRequest,
): Promise<'ended' | 'cancelled'> {
  const patience = dice.chance(0.25) ? dice.int(0, 200) : Infinity;
  for (let turn = 0; !seen.ended; turn++) {
    if (turn === patience) {
      harness.engine.cancel(seen.id, harness.consumer);
      if (dice.chance(0.5)) harness.engine.cancel(seen.id, harness.consumer);
      await seen.done;
      return 'cancelled';
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (request.credits !== undefined && dice.chance(0.3)) {
      harness.engine.credit(seen.id, harness.consumer, dice.int(1, 4));
    }
  }
  return 'ended';
}

describe('the engine under random load', function () {
  this.timeout(60_000);

  for (const [seed, load] of [
    [1, 'mixed'],
    [2, 'mixed'],
    [3, 'mixed'],
    [4, 'long answers'],
    [5, 'long answers'],
    [6, 'long answers'],
  ] as const) {
    it(`gives every request what it gives alone, whatever runs beside it (${load}, seed ${seed})`, async () => {
      const dice = new Dice(seed);
      const prefixes = Array.from({ length: 3 }, () =>
        Array.from({ length: 400 }, () => dice.int(0, VOCAB - 1)),
      );
      const harness = new Harness(
        {
          ...FAKE,
          blocks: dice.int(14, 30),
          maxSequences: dice.int(6, 14),
          maxBatchTokens: dice.int(24, 200),
        },
        { mixedPromptTokens: dice.int(8, 64), maxWaiting: 10_000 },
      );
      const ideal = new FakeEngine({
        ...FAKE,
        blocks: harness.native.info.blocks,
        maxBatchTokens: 1024,
        maxSequences: harness.native.info.maxSequences,
      });
      const requests: { request: EngineRequest; seen: Seen; end: Promise<'ended' | 'cancelled'> }[] = [];
      for (let i = 0; i < 120; i++) {
        const request = harness.request(withMinTokens(dice, randomInput(dice, prefixes, load)));
        const seen = harness.consumer.expect(request.requestId);
        const refused = harness.engine.submit(request, harness.consumer);
        if (refused !== undefined) {
          assert.match(refused.field, /^(sampling\.n|prompt)$/, refused.message);
          continue;
        }
        requests.push({ request, seen, end: live(harness, dice, seen, request) });
        const pause = dice.chance(0.7) ? 0 : dice.int(0, 40);
        for (let turn = 0; turn < pause; turn++) await new Promise((resolve) => setImmediate(resolve));
      }
      let compared = 0;
      for (const { request, seen, end } of requests) {
        const how = await end;
        assert.equal(seen.error, undefined, seen.error?.message);
        if (how === 'cancelled') {
          assert(seen.choices.some((choice) => choice.finish === FinishReason.CANCELLED) || seen.ended);
          continue;
        }
        const expected = await reference(request, ideal, harness.texts);
        expected.forEach((choice, index) => {
          checkChoice(seen.choice(index), choice, `${seen.id} choice ${index} of ${expected.length}`);
        });
        compared++;
      }
      await harness.idle();
      assert(compared > 60, `only ${compared} requests were compared`);
      assert(load === 'mixed' || harness.preemptions > 20, `only ${harness.preemptions} preemptions`);
      await harness.stop();
      await ideal.dispose();
    });
  }
});
