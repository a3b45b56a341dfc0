// How requests end and wait, on the fake: cancel, credits, deadlines, refusals, faults, stop; and that every way gives
// the blocks back once.
import assert from 'node:assert/strict';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { ErrorCode, FinishReason, TailMode } from '@spotlight/proto';
import { EngineError } from '@spotlight/cuda';
import type { Batch, StepId } from '@spotlight/cuda';
import type { RequestObservation } from '@spotlight/worker/engine/observer.js';
import { silentObserver } from '@spotlight/worker/engine/observer.js';
import { FakeEngine } from '../fakes/engine.js';
import { Dice } from './dice.js';
import { Consumer, Harness, alone } from './harness.js';

const prompt = (length: number, salt = 0): number[] =>
  Array.from({ length }, (_, i) => 1 + ((i * 7 + salt) % 200));
const endless = { sampling: { maxTokens: 1000, ignoreEos: true } };

describe('the life of a request', () => {
  let harness: Harness;
  afterEach(() => harness.stop());

  it('counts cached tokens on the first and the last update, and names the artifact on the first', async () => {
    harness = new Harness({ artifacts: ['abcd'] });
    const { updates, usage } = await harness.start({ promptTokens: prompt(100) }).done;
    assert.deepEqual(usage, { promptTokens: 100, completionTokens: 16, cachedTokens: 0 });
    assert.deepEqual(
      updates.map((update) => [update.usage !== undefined, update.artifactDigest, update.done]),
      updates.map((_, i) => [
        i === 0 || i === updates.length - 1,
        i === 0 ? 'abcd' : '',
        i === updates.length - 1,
      ]),
    );
    const again = await harness.start({ promptTokens: prompt(100) }).done;
    assert.equal(again.usage?.cachedTokens, 64);
    const whole = await harness.start({ promptTokens: prompt(128) }).done;
    assert.equal(whole.usage?.cachedTokens, 64, 'a prompt of two full blocks runs at least one token');
    await harness.idle();
  });

  it('sends one call a step with all requests of a stream, and none to another stream', async () => {
    harness = new Harness();
    const other = new Consumer();
    const request = { ...harness.request({ ...endless }), sampling: harness.request({}).sampling };
    const theirs = other.expect(request.requestId);
    assert.equal(harness.engine.submit(request, other), undefined);
    const mine = Array.from({ length: 8 }, () =>
      harness.start({ sampling: { maxTokens: 20, ignoreEos: true } }),
    );
    await Promise.all([theirs.done, ...mine.map((seen) => seen.done)]);
    assert(harness.consumer.calls < 30, `${harness.consumer.calls} calls for 8 requests of 20 tokens`);
    await harness.idle();
  });

  it('ends a cancelled request once, at whatever moment, and gives its blocks back once (1,000 cancels)', async function () {
    this.timeout(60_000);
    harness = new Harness({ blocks: 40, maxSequences: 12, maxBatchTokens: 64 }, { maxWaiting: 2000 });
    const dice = new Dice(11);
    const requests = Array.from({ length: 1000 }, (_, i) => ({
      seen: harness.start({
        promptTokens: prompt(dice.int(1, 150), dice.int(0, 3)),
        credits: dice.chance(0.2) ? 2 : undefined,
        sampling: { ...endless.sampling, n: dice.chance(0.3) ? 3 : 1, seed: BigInt(i) },
      }),
      moment: dice.int(0, 900),
    }));
    for (let turn = 0; turn <= 900; turn++) {
      for (const { seen, moment } of requests) {
        if (moment === turn && !seen.ended) harness.engine.cancel(seen.id, harness.consumer);
      }
      await setImmediate();
    }
    for (const { seen } of requests) {
      await seen.done;
      assert(seen.choices.every(({ finish }) => finish === FinishReason.CANCELLED));
      assert.equal(seen.error, undefined);
    }
    await harness.idle();
  });

  it('ends all requests of a stream that is gone', async () => {
    harness = new Harness();
    const seen = Array.from({ length: 5 }, () => harness.start(endless));
    await setTimeout(5);
    harness.engine.cancelAll(harness.consumer);
    await Promise.all(seen.map((one) => one.done));
    await harness.idle();
  });

  it('tells of a cancel without waiting for the step that runs', async () => {
    harness = new Harness({ stepMs: 200 });
    const seen = harness.start(endless);
    await setTimeout(20);
    const before = performance.now();
    harness.engine.cancel(seen.id, harness.consumer);
    await seen.done;
    assert(performance.now() - before < 100);
    await harness.idle();
  });

  it('cancels the requests of a stream that fails to take updates, and no other', async () => {
    harness = new Harness();
    const broken = {
      calls: 0,
      send: () => {
        broken.calls++;
        throw new Error('gone');
      },
    };
    assert.equal(harness.engine.submit(harness.request(endless), broken), undefined);
    const seen = harness.start({ sampling: { maxTokens: 20, ignoreEos: true } });
    assert.equal((await seen.done).choice(0).finish, FinishReason.LENGTH);
    await harness.idle();
    assert.equal(broken.calls, 1);
    assert.equal(harness.engine.health().dead, undefined);
  });

  it('pauses a request without credit, keeps its blocks, and loses no token', async () => {
    const input = { promptTokens: prompt(70), sampling: { maxTokens: 30, ignoreEos: true } };
    const expected = await alone(input);
    harness = new Harness();
    const seen = harness.start({ ...input, credits: 3 });
    await setTimeout(30);
    assert.equal(seen.updates.filter((update) => update.deltas.length > 0).length, 3);
    assert.equal(harness.engine.load().running, 1);
    assert(harness.engine.load().freeBlocks < harness.engine.load().totalBlocks);
    assert.equal(harness.engine.health().busy, false, 'nothing runs while its only request waits');
    for (let i = 0; i < 40 && !seen.ended; i++) {
      const before = seen.updates.length;
      harness.engine.credit(seen.id, harness.consumer, 2);
      await setTimeout(4);
      assert(seen.updates.length - before <= 2);
    }
    assert.deepEqual(seen.choice(0).tokens, expected.choice(0).tokens);
    assert.equal(seen.choice(0).text, expected.choice(0).text);
    await harness.idle();
  });

  it('lets others run and take the blocks of requests that wait for credit', async () => {
    harness = new Harness({ blocks: 6 });
    const input = { promptTokens: prompt(250), sampling: { maxTokens: 60, ignoreEos: true } };
    const expected = await alone(input);
    const slow = harness.start({ ...input, credits: 1 });
    await setTimeout(20);
    const quick = harness.start({
      promptTokens: prompt(250, 1),
      sampling: { maxTokens: 5, ignoreEos: true },
    });
    await quick.done;
    assert.equal(slow.ended, false);
    harness.engine.credit(slow.id, harness.consumer, 1000);
    await slow.done;
    assert.deepEqual(slow.choice(0).tokens, expected.choice(0).tokens);
    assert.equal(harness.preemptions, 1);
    await harness.idle();
  });

  it('ends a request at its deadline, running, waiting or paused', async () => {
    harness = new Harness({ blocks: 6, stepMs: 1 });
    const deadline = performance.now() + 60;
    const running = harness.start({ ...endless, promptTokens: prompt(200), deadline });
    await setTimeout(20);
    const waiting = harness.start({ ...endless, promptTokens: prompt(200, 1), deadline });
    await Promise.all([running.done, waiting.done]);
    const paused = harness.start({ ...endless, credits: 1, deadline: performance.now() + 40 });
    await paused.done;
    for (const seen of [running, waiting, paused]) {
      assert.equal(seen.error?.code, ErrorCode.DEADLINE_EXCEEDED);
      assert.equal(seen.error.retryable, false);
    }
    assert(running.choice(0).tokens.length > 0);
    assert(performance.now() < deadline + 400);
    await harness.idle();
  });

  it('refuses what it cannot take, with a code that says what to do', async () => {
    harness = new Harness({ artifacts: ['aa'] }, { maxWaiting: 2 });
    const code = (input: Parameters<Harness['request']>[0]): ErrorCode | undefined =>
      harness.engine.submit(harness.request(input), harness.consumer)?.code;
    assert.equal(code({ promptTokens: [] }), ErrorCode.INVALID_ARGUMENT);
    assert.equal(code({ promptTokens: prompt(3000) }), ErrorCode.PROMPT_TOO_LONG);
    assert.equal(code({ artifactDigest: 'bb' }), ErrorCode.FAILED_PRECONDITION);
    harness.start({ ...endless, requestId: 'same' });
    assert.equal(code({ requestId: 'same' }), ErrorCode.CONFLICT);
    harness.start(endless);
    const refusal = harness.engine.submit(harness.request({}), harness.consumer);
    assert.deepEqual([refusal?.code, refusal?.retryable], [ErrorCode.OVERLOADED, true]);
    harness.engine.drain();
    const draining = harness.engine.submit(harness.request({}), harness.consumer);
    assert.deepEqual([draining?.code, draining?.retryable], [ErrorCode.UNAVAILABLE, true]);
    harness.engine.cancelAll(harness.consumer);
    await harness.idle();
  });

  it('refuses spotlight where no artifact is loaded, and serves the default dense', async () => {
    harness = new Harness();
    const refused = harness.engine.submit(
      harness.request({ attention: { backend: 'spotlight', tail: TailMode.UNSPECIFIED } }),
      harness.consumer,
    );
    assert.equal(refused?.field, 'attention.backend');
    const { updates } = await harness.start({}).done;
    assert.equal(updates[0]?.artifactDigest, '');
  });

  it('pins a request to the artifact it names', async () => {
    harness = new Harness({ artifacts: ['aa', 'bb'] });
    const input = { promptTokens: prompt(90), sampling: { maxTokens: 8, ignoreEos: true } };
    const [a, b, active] = await Promise.all([
      harness.start({ ...input, artifactDigest: 'aa' }).done,
      harness.start({ ...input, artifactDigest: 'bb' }).done,
      harness.start(input).done,
    ]);
    assert.equal(b.updates[0]?.artifactDigest, 'bb');
    assert.deepEqual(active.choice(0).tokens, a.choice(0).tokens);
    assert.notDeepEqual(b.choice(0).tokens, a.choice(0).tokens);
    await harness.idle();
  });

  it('ends every request with a retryable error when the engine dies, and takes none after', async () => {
    harness = new Harness({ dieAtStep: 10 });
    const seen = [harness.start(endless), harness.start({ ...endless, credits: 1 }), harness.start(endless)];
    for (const one of seen) {
      await one.done;
      assert.equal(one.error?.code, ErrorCode.WORKER_LOST);
      assert.equal(one.error.retryable, true);
      assert.match(one.error.message, /device fault in step 10/);
    }
    assert.match(harness.engine.health().dead ?? '', /device fault/);
    const refused = harness.engine.submit(harness.request({}), harness.consumer);
    assert.deepEqual([refused?.code, refused?.retryable], [ErrorCode.UNAVAILABLE, true]);
  });

  it('ends only the request whose logits are not finite, text so far first, and others run on', async () => {
    const input = { promptTokens: prompt(130), sampling: { maxTokens: 40, ignoreEos: true } };
    const expected = await alone(input);
    let corrupted = 0;
    harness = new Harness(
      { damages: ({ position, tokens }) => position === 140 && tokens.length === 1 },
      { observer: { ...silentObserver, corrupted: () => corrupted++ } },
    );
    const struck = harness.start(input);
    const others = [1, 2].map((salt) => harness.start({ ...input, promptTokens: prompt(90, salt) }));
    await Promise.all([struck.done, ...others.map((seen) => seen.done)]);
    assert.deepEqual([struck.error?.code, struck.error?.retryable], [ErrorCode.INTERNAL, false]);
    assert.match(struck.error?.message ?? '', /logits were not finite after 11 tokens/);
    assert.deepEqual(struck.choice(0).tokens, expected.choice(0).tokens.slice(0, 11));
    assert.equal(struck.usage?.completionTokens, 11);
    for (const seen of others) assert.equal(seen.choice(0).tokens.length, 40);
    assert.equal(corrupted, 1);
    assert.equal(harness.engine.health().dead, undefined);
    await harness.idle();
  });

  it('lets nobody find the blocks of a request whose logits were not finite', async () => {
    const input = { promptTokens: prompt(300), sampling: { maxTokens: 8, ignoreEos: true } };
    const expected = await alone(input);
    let damaged = false;
    harness = new Harness({
      maxBatchTokens: 100,
      damages: ({ position }) => !damaged && position === 100 && (damaged = true),
    });
    const struck = await harness.start(input).done;
    assert.match(struck.error?.message ?? '', /not finite after 0 tokens/);
    await harness.idle();
    const again = await harness.start(input).done;
    assert.equal(again.usage?.cachedTokens, 0, 'chunks that ran before the draw are forgotten too');
    assert.deepEqual(again.choice(0).tokens, expected.choice(0).tokens);
    assert.equal((await harness.start(input).done).usage?.cachedTokens, 256);
    await harness.idle();
  });

  it('ends all choices of a request when one is corrupted', async () => {
    harness = new Harness({
      damages: ({ position, tokens, sequence }) =>
        position === 75 && tokens.length === 1 && sequence % 3 === 2,
    });
    const seen = harness.start({
      promptTokens: prompt(70),
      sampling: { maxTokens: 20, n: 3, ignoreEos: true },
    });
    await seen.done;
    assert.equal(seen.error?.code, ErrorCode.INTERNAL);
    await harness.idle();
  });

  it('stops: ends what runs, waits for the steps in flight, and may be called again', async () => {
    harness = new Harness({ stepMs: 3 });
    const seen = harness.start(endless);
    await setTimeout(20);
    await Promise.all([harness.engine.stop(), harness.engine.stop()]);
    assert.equal((await seen.done).error?.code, ErrorCode.UNAVAILABLE);
    assert.equal(harness.native.stats().inFlight, 0);
  });

  it('observes each request once: times, reasons and tokens', async () => {
    const finished: RequestObservation[] = [];
    let gaps = 0;
    let firsts = 0;
    harness = new Harness(
      { stepMs: 1 },
      {
        observer: {
          ...silentObserver,
          finished: (request) => finished.push(request),
          tokens: ({ gapCount }) => (gaps += gapCount),
          firstToken: () => firsts++,
        },
      },
    );
    await harness.start({ sampling: { maxTokens: 9, n: 2, ignoreEos: true } }).done;
    const cancelled = harness.start(endless);
    await setTimeout(20);
    harness.engine.cancel(cancelled.id, harness.consumer);
    await cancelled.done;
    assert.equal(finished.length, 2);
    const [first, second] = finished;
    assert.deepEqual(first?.finishReasons, [FinishReason.LENGTH, FinishReason.LENGTH]);
    assert.equal(first.completionTokens, 18);
    assert.deepEqual(second?.finishReasons, [FinishReason.CANCELLED]);
    assert.equal(firsts, 2);
    assert.equal(gaps, 18 - 2 + second.completionTokens - 1);
    const { queued = NaN, prefill = NaN, decode = NaN, endToEnd } = first;
    assert(Math.abs(queued + prefill + decode - endToEnd) < 1e-9);
    await harness.idle();
  });
});

/** Refuses rows with a marked token, as a native engine might for a reason the worker does not know. */
class PickyEngine extends FakeEngine {
  override submit(batch: Batch): StepId {
    const row = batch.rows.findIndex(({ tokens }) => Array.from(tokens).includes(77));
    if (row !== -1) throw new EngineError('INVALID_ARGUMENT', `rows[${row}].tokens: 77 is not to my taste`);
    return super.submit(batch);
  }
}

describe('a batch the native engine refuses', () => {
  it('ends the request whose row is named and runs the others', async () => {
    const harness = new Harness({ eosTokenIds: [] }, {}, PickyEngine);
    const others = [1, 2].map((salt) =>
      harness.start({ promptTokens: [salt], sampling: { logitBias: { 5: 100 } } }),
    );
    const refused = harness.start({ promptTokens: [1, 77] });
    await Promise.all([refused.done, ...others.map((seen) => seen.done)]);
    assert.equal(refused.error?.code, ErrorCode.INTERNAL);
    assert.match(refused.error.message, /77 is not to my taste/);
    for (const seen of others) assert.equal(seen.choice(0).tokens.length, 16);
    await harness.idle();
    await harness.stop();
  });
});
