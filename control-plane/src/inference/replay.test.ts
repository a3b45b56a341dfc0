// A request that loses its worker midway, over a fake fleet: what the next worker is asked, and that the client sees one stream.
import type { RequestUpdate } from '@spotlight/proto';
import {
  ArtifactSlot,
  AttentionSettings,
  ErrorCode,
  FinishReason,
  ModelDescription,
  SamplingParams,
} from '@spotlight/proto';
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '../errors/service-error.js';
import { worker } from '../routing/snapshot.fixture.js';
import { Metrics } from '../telemetry/metrics.js';
import type { WorkerSnapshot } from '../workers/api.js';
import {
  asked,
  Ears,
  failed,
  FakeFleet,
  FakeRouter,
  LIMITS,
  noRollouts,
  token,
} from './fake-fleet.fixture.js';
import type { FailoverLimits } from './failover.js';
import { InferenceService } from './inference.service.js';

const DIGEST = 'd'.repeat(64);
const lost = (): ServiceError => new ServiceError(ErrorCode.WORKER_LOST, 'It is gone; try again.');

function serving(
  workerId: string,
  change: Partial<WorkerSnapshot> = {},
  settingsDigest = 's',
): WorkerSnapshot {
  const slot = ArtifactSlot.fromPartial({ slot: 0, artifactDigest: DIGEST, active: true });
  return worker(
    workerId,
    {},
    {
      model: ModelDescription.fromPartial({
        id: 'm',
        fingerprint: 'f',
        backend: 'spotlight',
        settingsDigest,
      }),
      slots: [slot],
      ...change,
    },
  );
}

/** Text and tokens of a choice as its client has them. */
function heard(ears: Ears, choice = 0): { text: string; tokens: number[]; finishes: FinishReason[] } {
  const deltas = ears.updates.flatMap((update) => update.deltas).filter((delta) => delta.choice === choice);
  return {
    text: deltas.map(({ text }) => text).join(''),
    tokens: deltas.flatMap(({ tokenIds }) => tokenIds),
    finishes: deltas
      .map(({ finishReason }) => finishReason)
      .filter((reason) => reason !== FinishReason.UNSPECIFIED),
  };
}

const first = (over: Partial<RequestUpdate> = {}): RequestUpdate =>
  token({ artifactDigest: DIGEST, ...over });
const delta = (tokenIds: number[], text: string, finishReason = FinishReason.UNSPECIFIED, choice = 0) => ({
  choice,
  tokenIds,
  text,
  logprobs: [],
  finishReason,
});

describe('a request that loses its worker midway', () => {
  let fleet: FakeFleet;
  let router: FakeRouter;
  let metrics: Metrics;
  let ears: Ears;
  let service: InferenceService;

  function serve(limits: Partial<FailoverLimits> = {}): InferenceService {
    const config = { maxRequests: 64, maxRequestsPerKey: 64, requestTimeout: 60_000, ...LIMITS, ...limits };
    service = new InferenceService(config, fleet, router, metrics, noRollouts);
    return service;
  }

  beforeEach(() => {
    fleet = new FakeFleet();
    router = new FakeRouter();
    router.workers = fleet.workers = ['w1', 'w2', 'w3'].map((id) => serving(id));
    metrics = new Metrics();
    ears = new Ears();
    serve();
  });
  afterEach(async () => {
    service.onModuleDestroy();
    await service.drain(0);
  });

  const value = async (name: 'replays' | 'replayedTokens' | 'replaysMissed' | 'retries'): Promise<unknown> =>
    (await metrics[name].get()).values.map(({ labels, value: count }) => [...Object.values(labels), count]);

  it('goes on elsewhere from the tokens its client has', async () => {
    const generation = service.generate(asked({ credits: 10 }), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onUpdate(token({ deltas: [delta([2, 3], '')], usage: undefined }));
    generation.credit(4);
    fleet.at(0).listener.onLost(lost());
    const { submit, workerId } = fleet.at(1);
    assert.equal(workerId, 'w2');
    assert.deepEqual(submit.resume, [{ choice: 0, tokenIds: [1, 2, 3], emittedChars: 1, finished: false }]);
    assert.deepEqual(
      [submit.artifactDigest, submit.credits, submit.sampling],
      [DIGEST, 12, fleet.at(0).submit.sampling],
    );
    assert.deepEqual(submit.prompt, fleet.at(0).submit.prompt);
    assert.notEqual(submit.requestId, fleet.at(0).submit.requestId);
    assert.deepEqual([generation.workerId, generation.replays], ['w2', 1]);

    fleet.at(0).listener.onUpdate(token({ deltas: [delta([9], 'late')] }));
    const usage = { promptTokens: 3, completionTokens: 4, cachedTokens: 64 };
    fleet
      .at(1)
      .listener.onUpdate(first({ deltas: [delta([4], 'bcd', FinishReason.LENGTH)], usage, done: true }));
    assert.deepEqual(heard(ears), { text: 'abcd', tokens: [1, 2, 3, 4], finishes: [FinishReason.LENGTH] });
    assert.deepEqual(ears.updates.at(-1)?.usage, { ...usage, cachedTokens: 0 });
    assert.deepEqual([ears.errors, service.inFlight], [[], 0]);
    assert.deepEqual(await value('replays'), [['worker_lost', 1]]);
    assert.deepEqual(await value('replayedTokens'), [[3]]);
    assert.deepEqual(await value('replaysMissed'), []);
  });

  it('goes on from the second loss as from the first', () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    fleet.at(1).listener.onUpdate(first({ deltas: [delta([2], 'b')] }));
    fleet.at(1).listener.onUpdate(failed(ErrorCode.UNAVAILABLE, true)); // It is stopping.
    assert.deepEqual(
      [fleet.at(2).workerId, fleet.at(2).submit.resume],
      ['w3', [{ choice: 0, tokenIds: [1, 2], emittedChars: 2, finished: false }]],
    );
  });

  it('keeps choices that have ended, and leaves those that have not begun to the next worker', () => {
    service.generate(asked({ sampling: SamplingParams.fromPartial({ n: 3 }) }), ears);
    fleet
      .at(0)
      .listener.onUpdate(first({ deltas: [delta([1], 'a'), delta([5], 'x', FinishReason.STOP, 2)] }));
    fleet.at(0).listener.onLost(lost());
    assert.deepEqual(fleet.at(1).submit.resume, [
      { choice: 0, tokenIds: [1], emittedChars: 1, finished: false },
      { choice: 2, tokenIds: [5], emittedChars: 1, finished: true },
    ]);
    const rest = [delta([2], 'b', FinishReason.LENGTH), delta([3], 'c', FinishReason.LENGTH, 1)];
    fleet.at(1).listener.onUpdate(first({ deltas: rest, done: true }));
    assert.deepEqual(
      [0, 1, 2].map((choice) => [heard(ears, choice).text, heard(ears, choice).finishes.length]),
      [
        ['ab', 1],
        ['c', 1],
        ['x', 1],
      ],
    );
  });

  it('counts the prompt of an echo as text, not as generated tokens', () => {
    service.generate(asked({ sampling: SamplingParams.fromPartial({ echo: true }) }), ears);
    fleet.at(0).listener.onUpdate(first({ deltas: [delta([7, 8, 9, 1], 'hello a')] }));
    fleet.at(0).listener.onLost(lost());
    assert.deepEqual(fleet.at(1).submit.resume, [
      { choice: 0, tokenIds: [1], emittedChars: 7, finished: false },
    ]);
  });

  it('passes over workers without its artifact, its model or its settings', () => {
    router.workers = [
      serving('w1'),
      serving('other-artifact', { slots: [] }),
      serving('other-settings', {}, 't'),
      serving('other-model', {
        model: ModelDescription.fromPartial({ id: 'm', fingerprint: 'g', settingsDigest: 's' }),
      }),
      serving('w9'),
    ];
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    assert.equal(fleet.at(1).workerId, 'w9');
  });

  it('needs neither artifact nor settings where it attends densely', () => {
    router.workers = [serving('w1'), serving('w2', { slots: [] }, 't')];
    service.generate(asked({ attention: AttentionSettings.fromPartial({ backend: 'dense' }) }), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    assert.deepEqual([fleet.at(1).workerId, fleet.at(1).submit.artifactDigest], ['w2', '']);
  });

  it('ends with the loss when nobody can go on, and counts it', async () => {
    router.workers = [serving('w1'), serving('w2', { slots: [] })];
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    router.workers.shift();
    fleet.at(0).listener.onLost(lost());
    assert.deepEqual(
      ears.errors.map(({ code, retryable }) => [code, retryable]),
      [[ErrorCode.WORKER_LOST, true]],
    );
    assert.deepEqual([fleet.calls.length, service.inFlight], [1, 0]);
    assert.deepEqual(await value('replaysMissed'), [['no_worker', 1]]);
  });

  it('goes back to a lost name only when it has joined anew', () => {
    router.workers = [serving('w1'), serving('w2')];
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    service.generate(asked({ requestId: 'other' }), new Ears());
    router.workers[0] = serving('w1', { incarnation: 'w1 anew' });
    fleet.at(1).listener.onLost(lost());
    assert.deepEqual([fleet.at(3).workerId, ears.errors], ['w1', []]);
    fleet.at(3).listener.onUpdate(failed(ErrorCode.OVERLOADED, true));
    assert.equal(fleet.calls.length, 4);
    assert.equal(ears.errors[0]?.code, ErrorCode.OVERLOADED);
  });

  it('tells of the loss, not of the refusal, when other workers will not go on', async () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    fleet.at(1).listener.onUpdate(failed(ErrorCode.INVALID_ARGUMENT, false));
    assert.deepEqual([fleet.at(2).workerId, ears.errors.length], ['w3', 0]);
    fleet.at(2).listener.onUpdate(failed(ErrorCode.FAILED_PRECONDITION, false));
    assert.deepEqual(
      ears.errors.map(({ code, retryable }) => [code, retryable]),
      [[ErrorCode.WORKER_LOST, true]],
    );
    assert.deepEqual(await value('replaysMissed'), [['limit', 1]]);
  });

  it('stops at the limit of replays, and at the limit of tokens', async () => {
    serve({ replayLimit: 1, replayMaxTokens: 2 });
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    fleet.at(1).listener.onLost(lost());
    service.generate(asked(), ears);
    fleet.at(2).listener.onUpdate(first({ deltas: [delta([1, 2, 3], 'abc')] }));
    fleet.at(2).listener.onLost(lost());
    assert.equal(fleet.calls.length, 3);
    assert.deepEqual(
      ears.errors.map(({ code }) => code),
      [ErrorCode.WORKER_LOST, ErrorCode.WORKER_LOST],
    );
    assert.deepEqual(await value('replaysMissed'), [
      ['limit', 1],
      ['length', 1],
    ]);
  });

  it('does not run again what failed by itself', () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onUpdate(failed(ErrorCode.INTERNAL, false));
    assert.deepEqual([fleet.calls.length, ears.errors[0]?.code], [1, ErrorCode.INTERNAL]);
  });

  it('takes a request that its worker gave up for lost, and tells nothing of the end', () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onUpdate(token({ deltas: [delta([], 'rest', FinishReason.CANCELLED)], done: true }));
    assert.deepEqual([fleet.at(1).workerId, heard(ears).text], ['w2', 'a']);
  });

  it('gives a paused client one step, never unlimited ones', () => {
    const generation = service.generate(asked({ credits: 1 }), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    assert.equal(fleet.at(1).submit.credits, 1);
    generation.credit(5);
    assert.equal(fleet.at(1).credits, 6);
    service.generate(asked({ credits: 0 }), new Ears());
    fleet.at(2).listener.onUpdate(first());
    fleet.at(2).listener.onLost(lost());
    assert.equal(fleet.at(3).submit.credits, 0, 'without back-pressure there stays none');
  });

  it('is silent when the client leaves between two workers', () => {
    const generation = service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(first());
    fleet.at(0).listener.onLost(lost());
    generation.cancel();
    assert.equal(fleet.at(1).cancelled, true);
    fleet.at(1).listener.onLost(lost());
    assert.deepEqual([ears.errors, fleet.calls.length, service.inFlight], [[], 2, 0]);
  });

  describe('a worker that hangs', () => {
    const HEDGE_MS = 100;
    const stepsNow = (...ids: string[]): void => {
      fleet.workers = router.workers = router.workers.map((one) =>
        ids.includes(one.workerId) ? { ...one, steppedAt: performance.now() } : one,
      );
    };

    beforeEach(() => {
      service.onModuleDestroy();
      serve({ hedgeAfter: HEDGE_MS });
    });

    /** Time passes while these workers step. */
    async function pass(ms: number, ...stepping: string[]): Promise<void> {
      const until = performance.now() + ms;
      while (performance.now() < until) {
        stepsNow(...stepping);
        await sleep(10);
      }
    }

    /** Until so many calls have been made while these workers step. */
    async function passUntil(calls: number, ...stepping: string[]): Promise<void> {
      const limit = performance.now() + 10_000;
      while (fleet.calls.length < calls && performance.now() < limit) await pass(10, ...stepping);
    }

    it('is left for one that steps; what it says later is not heard', async () => {
      service.generate(asked(), ears);
      stepsNow('w1', 'w2', 'w3');
      fleet.at(0).listener.onUpdate(first());
      await passUntil(2, 'w3');
      assert.deepEqual([fleet.calls.length, fleet.at(1).workerId], [2, 'w3']);
      assert.equal(fleet.at(0).cancelled, true);
      fleet.at(0).listener.onUpdate(token({ deltas: [delta([2], 'old')] }));
      fleet.at(0).listener.onLost(lost());
      fleet.at(1).listener.onUpdate(first({ deltas: [delta([2], 'b', FinishReason.STOP)], done: true }));
      assert.deepEqual([heard(ears).text, ears.errors, fleet.calls.length], ['ab', [], 2]);
      assert.deepEqual(await value('replays'), [['hung', 1]]);
    });

    it('is left before the first token too, once', async () => {
      service.generate(asked(), ears);
      await passUntil(2, 'w2');
      assert.deepEqual(
        fleet.calls.map(({ workerId, submit }) => [workerId, submit.resume.length]),
        [
          ['w1', 0],
          ['w2', 0],
        ],
      );
      await pass(300, 'w3');
      assert.equal(fleet.calls.length, 2);
      assert.deepEqual(await value('retries'), [['hung', 1]]);
    });

    it('keeps its requests when no other steps either, or it is the client that does not read', async () => {
      service.generate(asked(), ears);
      fleet.at(0).listener.onUpdate(first());
      const slow = service.generate(asked({ credits: 1 }), new Ears());
      fleet.at(1).listener.onUpdate(first());
      await pass(300);
      assert.equal(fleet.calls.length, 2);
      assert.deepEqual([fleet.at(0).cancelled, fleet.at(1).cancelled], [false, false]);
      slow.cancel();
    });

    it('keeps a slow reader until it has read and then waited', async () => {
      const slow = service.generate(asked({ credits: 1 }), ears);
      fleet.at(0).listener.onUpdate(first());
      await pass(250, 'w2');
      assert.equal(fleet.calls.length, 1);
      slow.credit(4);
      await pass(60, 'w2');
      assert.equal(fleet.calls.length, 1, 'the wait begins with the credit');
      await passUntil(2, 'w2');
      assert.equal(fleet.at(1).workerId, 'w2');
      assert.equal(fleet.at(1).submit.credits, 4);
    });

    it('that has left the fleet is left when it falls silent', async () => {
      service.generate(asked(), ears);
      fleet.at(0).listener.onUpdate(first());
      router.workers.shift();
      await passUntil(2, 'w2');
      assert.equal(fleet.at(1).workerId, 'w2');
    });

    it('keeps a request that waits behind others while it steps', async () => {
      service.generate(asked(), ears);
      await pass(300, 'w1', 'w2');
      assert.equal(fleet.calls.length, 1);
    });
  });
});
