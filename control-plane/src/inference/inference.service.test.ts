// The whole path over a fake fleet: who is called, when a second worker is tried, and that every request ends exactly once.
import { ErrorCode, FinishReason, SamplingParams } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '../errors/service-error.js';
import { worker } from '../routing/snapshot.fixture.js';
import { Metrics } from '../telemetry/metrics.js';
import type { GenerationSink } from './generation-request.js';
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
import { InferenceService } from './inference.service.js';

describe('InferenceService', () => {
  let fleet: FakeFleet;
  let router: FakeRouter;
  let metrics: Metrics;
  let service: InferenceService;
  let ears: Ears;

  beforeEach(() => {
    fleet = new FakeFleet();
    router = new FakeRouter();
    metrics = new Metrics();
    service = new InferenceService(
      { maxRequests: 4, maxRequestsPerKey: 2, requestTimeout: 60_000, ...LIMITS },
      fleet,
      router,
      metrics,
      noRollouts,
    );
    ears = new Ears();
  });

  // A request that runs on holds its deadline, and with it the process.
  afterEach(() => service.drain(0));

  it('calls the worker that routing chose, with a seed and a wire id of its own', () => {
    const generation = service.generate(asked(), ears);
    service.generate(asked(), new Ears());
    const [first, second] = [fleet.at(0).submit, fleet.at(1).submit];
    assert.equal(generation.workerId, 'w1');
    assert.equal(first.sampling?.seed, generation.seed);
    assert.notEqual(first.requestId, second.requestId, 'two requests of one client id share a wire id');
    assert.ok(first.requestId.startsWith('r~'));
    assert.ok((first.timeoutMs ?? 0) > 59_000 && (first.timeoutMs ?? 0) <= 60_000);
  });

  it('keeps a seed it is given and leaves the rest of the sampling alone', () => {
    service.generate(asked({ sampling: SamplingParams.fromPartial({ seed: 9n, temperature: 0 }) }), ears);
    assert.deepEqual(fleet.at(0).submit.sampling, SamplingParams.fromPartial({ seed: 9n, temperature: 0 }));
  });

  it('relays updates in order and counts the tokens once at the end', async () => {
    service.generate(asked(), ears);
    const { listener } = fleet.at(0);
    listener.onUpdate(token());
    listener.onUpdate(
      token({ done: true, usage: { promptTokens: 3, completionTokens: 2, cachedTokens: 0 } }),
    );
    assert.equal(ears.updates.length, 2);
    assert.equal(service.inFlight, 0);
    assert.equal((await metrics.completionTokens.get()).values[0]?.value, 2);
    assert.equal((await metrics.promptTokens.get()).values[0]?.value, 3);
  });

  it('tries another worker once when the first is lost before any token', () => {
    const generation = service.generate(asked(), ears);
    fleet.at(0).listener.onLost(new ServiceError(ErrorCode.WORKER_LOST, 'w1 is gone.'));
    assert.equal(generation.workerId, 'w2');
    assert.deepEqual(router.requests[1]?.exclude, new Set(['w1']));
    assert.equal(fleet.at(1).submit.sampling?.seed, fleet.at(0).submit.sampling?.seed);
    fleet.at(1).listener.onUpdate(token({ done: true }));
    assert.deepEqual([ears.updates.length, ears.errors.length], [1, 0]);
  });

  it('tries another worker when the call itself finds the first one gone', () => {
    fleet.gone.add('w1');
    assert.equal(service.generate(asked(), ears).workerId, 'w2');
  });

  it('gives the second failure up, with its own error', () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(failed(ErrorCode.OVERLOADED, true));
    fleet.at(1).listener.onLost(new ServiceError(ErrorCode.WORKER_LOST, 'w2 is gone.'));
    assert.deepEqual(
      ears.errors.map(({ code }) => code),
      [ErrorCode.WORKER_LOST],
    );
    assert.equal(fleet.calls.length, 2);
    assert.equal(service.inFlight, 0);
  });

  it('tells the first failure when there is no other worker', () => {
    router.workers = [worker('w1')];
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(failed(ErrorCode.OVERLOADED, true));
    assert.deepEqual(
      ears.errors.map(({ code }) => code),
      [ErrorCode.OVERLOADED],
    );
  });

  it('does not try again what cannot go better elsewhere', () => {
    service.generate(asked(), ears);
    fleet.at(0).listener.onUpdate(failed(ErrorCode.PROMPT_TOO_LONG, false));
    assert.equal(fleet.calls.length, 1);
    assert.deepEqual(
      ears.errors.map(({ code, retryable }) => [code, retryable]),
      [[ErrorCode.PROMPT_TOO_LONG, false]],
    );
  });

  it('makes an error of a choice that the worker ended without a reason', () => {
    service.generate(asked(), ears);
    const finishReason = FinishReason.ERROR;
    fleet
      .at(0)
      .listener.onUpdate(
        token({ deltas: [{ choice: 0, tokenIds: [], text: '', logprobs: [], finishReason }], done: true }),
      );
    assert.deepEqual([ears.updates.length, ears.errors[0]?.code], [0, ErrorCode.INTERNAL]);
  });

  it('ends a request at its deadline, cancels it on the worker and hears nothing more', async () => {
    service.generate(asked({ timeoutMs: 20 }), ears);
    await sleep(40);
    assert.equal(fleet.at(0).cancelled, true);
    fleet.at(0).listener.onUpdate(token());
    assert.deepEqual(
      [ears.updates.length, ears.errors.map(({ code }) => code)],
      [0, [ErrorCode.DEADLINE_EXCEEDED]],
    );
    assert.match(ears.errors[0]?.message ?? '', /20 ms/);
  });

  it('is silent after a cancel', () => {
    const generation = service.generate(asked(), ears);
    generation.cancel();
    generation.cancel();
    fleet.at(0).listener.onUpdate(token());
    fleet.at(0).listener.onLost(new ServiceError(ErrorCode.WORKER_LOST, 'gone'));
    assert.equal(fleet.at(0).cancelled, true);
    assert.deepEqual([ears.updates, ears.errors, service.inFlight], [[], [], 0]);
  });

  it('passes credits on to the worker that runs the request', () => {
    const generation = service.generate(asked(), ears);
    fleet.at(0).listener.onLost(new ServiceError(ErrorCode.WORKER_LOST, 'gone'));
    generation.credit(32);
    assert.deepEqual([fleet.at(0).credits, fleet.at(1).credits], [8, 40]);
  });

  it('refuses what is invalid or too much before it routes', () => {
    const invalid = SamplingParams.fromPartial({ topP: 0 });
    assert.throws(() => service.generate(asked({ sampling: invalid }), ears), { field: 'sampling.top_p' });
    for (let i = 0; i < 4; i++) service.generate(asked(), ears);
    assert.throws(() => service.generate(asked(), ears), { code: ErrorCode.OVERLOADED });
    assert.equal(router.requests.length, 4);
  });

  it('limits what one key has under way, not the others, until one ends', () => {
    const first = service.generate(asked({ caller: 'a' }), ears);
    service.generate(asked({ caller: 'a' }), ears);
    assert.throws(() => service.generate(asked({ caller: 'a' }), ears), {
      code: ErrorCode.RATE_LIMITED,
      retryAfterSeconds: 1,
    });
    service.generate(asked({ caller: 'b' }), ears);
    first.cancel();
    service.generate(asked({ caller: 'a' }), ears);
  });

  it('does not count a request that no worker took', () => {
    router.workers = [];
    for (let i = 0; i < 6; i++) {
      assert.throws(() => service.generate(asked({ caller: 'a' }), ears), { code: ErrorCode.UNAVAILABLE });
    }
    assert.equal(service.inFlight, 0);
  });

  it('ends a request whose door throws on its news', () => {
    const broken: GenerationSink = {
      onUpdate: () => {
        throw new TypeError('no socket');
      },
      onError: (error) => {
        ears.onError(error);
      },
    };
    service.generate(asked(), broken);
    fleet.at(0).listener.onUpdate(token());
    assert.deepEqual(
      [ears.errors[0]?.code, fleet.at(0).cancelled, service.inFlight],
      [ErrorCode.INTERNAL, true, 0],
    );
    assert.ok(ears.errors[0]?.cause instanceof TypeError);
  });

  it('drains: takes nothing new, waits for what runs', async () => {
    service.generate(asked(), ears);
    const drained = service.drain(10_000);
    assert.throws(() => service.generate(asked(), new Ears()), { code: ErrorCode.UNAVAILABLE });
    fleet.at(0).listener.onUpdate(token({ done: true }));
    await drained;
    assert.equal(ears.errors.length, 0);
  });

  it('ends what still runs when the drain takes too long', async () => {
    service.generate(asked(), ears);
    await service.drain(10);
    assert.equal(fleet.at(0).cancelled, true);
    assert.deepEqual(
      ears.errors.map(({ code, retryable }) => [code, retryable]),
      [[ErrorCode.UNAVAILABLE, true]],
    );
  });
});
