// Requests pinned to an artifact: where they go, and that nobody fails for an experiment.
import assert from 'node:assert/strict';
import { ArtifactSlot, ErrorCode, SlotState } from '@spotlight/proto';
import type { ArtifactPin } from '../rollouts/canary.js';
import { worker } from '../routing/snapshot.fixture.js';
import { Metrics } from '../telemetry/metrics.js';
import type { WorkerSnapshot } from '../workers/api.js';
import { asked, Ears, failed, FakeFleet, FakeRouter, LIMITS, token } from './fake-fleet.fixture.js';
import type { GenerationRequest } from './generation-request.js';
import { InferenceService } from './inference.service.js';

const CANARY = 'c'.repeat(64);

function holding(id: string, ...digests: string[]): WorkerSnapshot {
  const slots = digests.map((artifactDigest, slot) =>
    ArtifactSlot.fromPartial({ slot, artifactDigest, state: SlotState.READY }),
  );
  return worker(id, {}, { slots });
}

describe('a request pinned to an artifact', () => {
  let fleet: FakeFleet;
  let router: FakeRouter;
  let pin: ArtifactPin;
  let asks: unknown[];
  let service: InferenceService;
  let ears: Ears;
  let metrics: Metrics;
  beforeEach(() => {
    [fleet, router, ears, metrics] = [new FakeFleet(), new FakeRouter(), new Ears(), new Metrics()];
    router.workers = [holding('w1', 'd'), holding('w2', 'd', CANARY)];
    pin = { digest: CANARY, required: false };
    asks = [];
    const config = { maxRequests: 9, maxRequestsPerKey: 9, requestTimeout: 60_000, ...LIMITS };
    const rollouts = {
      pin: (...args: unknown[]) => {
        asks.push(args);
        return pin;
      },
    };
    service = new InferenceService(config, fleet, router, metrics, rollouts);
  });
  afterEach(() => service.drain(0));
  const generate = (over: Partial<GenerationRequest> = {}): void => {
    service.generate(asked(over), ears);
  };
  const calls = (): [string, string][] =>
    fleet.calls.map(({ workerId, submit }) => [workerId, submit.artifactDigest]);

  it('goes to a worker that holds it, and says so to the worker', () => {
    generate({ wish: { artifact: 'canary' } });
    assert.deepEqual(calls(), [['w2', CANARY]]);
    assert.deepEqual(asks, [['m', 'r', { artifact: 'canary' }]]);
  });

  it('is answered under what is active when no worker can take the canary', () => {
    router.workers = [holding('w1', 'd')];
    generate();
    assert.deepEqual(calls(), [['w1', '']]);
  });

  it('is not answered under another artifact than the one it demands', () => {
    pin = { digest: 'e'.repeat(64), required: true };
    assert.throws(generate, { code: ErrorCode.UNAVAILABLE });
    assert.deepEqual(calls(), []);
    assert.equal(service.inFlight, 0);
  });

  it('does without the canary on the same worker when that has just let it go', () => {
    router.workers = [holding('w2', 'd', CANARY)];
    generate();
    fleet.at(0).listener.onUpdate(failed(ErrorCode.FAILED_PRECONDITION, true));
    assert.deepEqual(calls(), [
      ['w2', CANARY],
      ['w2', ''],
    ]);
    assert.deepEqual(ears.errors, []);
  });

  it('does without it elsewhere when its worker was lost before a token', () => {
    generate();
    fleet.at(0).listener.onUpdate(failed(ErrorCode.WORKER_LOST, true));
    assert.deepEqual(calls().at(-1), ['w1', '']);
  });

  it('keeps it for life once it has begun', () => {
    router.workers = [holding('w1', 'd', CANARY), holding('w2', 'd', CANARY), holding('w3', 'd')];
    generate();
    fleet.at(0).listener.onUpdate(token({ artifactDigest: CANARY }));
    fleet.at(0).listener.onUpdate(failed(ErrorCode.WORKER_LOST, true));
    assert.deepEqual(calls(), [
      ['w1', CANARY],
      ['w2', CANARY],
    ]);
  });

  it('is counted by the artifact that answered', async () => {
    generate();
    fleet.at(0).listener.onUpdate(token({ artifactDigest: CANARY, done: true }));
    const text = await metrics.registry.metrics();
    assert.match(text, /gateway_completion_tokens_total\{model="m",artifact="cccccccccccc"\} 1/);
  });

  it('is refused before it counts when its wish is none', () => {
    service = new InferenceService(
      { maxRequests: 1, maxRequestsPerKey: 1, requestTimeout: 60_000, ...LIMITS },
      fleet,
      router,
      metrics,
      {
        pin: () => {
          throw new RangeError('no such wish');
        },
      },
    );
    for (let i = 0; i < 3; i++) assert.throws(generate, RangeError);
  });
});
