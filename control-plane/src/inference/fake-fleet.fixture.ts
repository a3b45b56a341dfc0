// A fleet, a router and a client under a test's hand: what inference calls is recorded, what workers say is said by the test.
import type { RequestUpdate, Submit } from '@spotlight/proto';
import { ErrorCode, RequestUpdate as Update, SamplingParams } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { ServiceError } from '../errors/service-error.js';
import type { LiveRollouts } from '../rollouts/live-rollouts.js';
import { continues, holdsArtifact, notExcluded } from '../routing/filters/filters.js';
import { worker } from '../routing/snapshot.fixture.js';
import type { CallListener, RouteRequest, WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import type { FailoverLimits } from './failover.js';
import type { GenerationRequest, GenerationSink } from './generation-request.js';

export const LIMITS: FailoverLimits = { replayLimit: 2, replayMaxTokens: 1000, hedgeAfter: 0 };

/** No rollout is under way. */
export const noRollouts: Pick<LiveRollouts, 'pin'> = { pin: () => ({ digest: '', required: false }) };

export interface Called {
  readonly workerId: string;
  readonly submit: Submit;
  readonly listener: CallListener;
  cancelled: boolean;
  credits: number;
}

export class FakeFleet implements Pick<WorkerFleet, 'call' | 'snapshots'> {
  readonly calls: Called[] = [];
  gone = new Set<string>();
  workers: WorkerSnapshot[] = [];

  snapshots(): readonly WorkerSnapshot[] {
    return this.workers;
  }

  call(
    workerId: string,
    submit: Submit,
    listener: CallListener,
  ): { cancel(): void; credit(steps: number): void } {
    if (this.gone.has(workerId)) throw new ServiceError(ErrorCode.UNAVAILABLE, `${workerId} has just gone.`);
    const called: Called = { workerId, submit, listener, cancelled: false, credits: submit.credits };
    this.calls.push(called);
    return {
      cancel: () => {
        called.cancelled = true;
      },
      credit: (steps) => {
        called.credits += steps;
      },
    };
  }

  at(index: number): Called {
    const called = this.calls[index];
    assert.ok(called, `there was no call ${index}`);
    return called;
  }
}

/** The first worker that may take the request. */
export class FakeRouter {
  readonly requests: RouteRequest[] = [];
  workers: WorkerSnapshot[] = [worker('w1'), worker('w2')];

  resolveModel(model: string): string {
    return model === '' ? 'm' : model;
  }

  route(request: RouteRequest): WorkerSnapshot {
    this.requests.push({ ...request, exclude: new Set(request.exclude) });
    const chosen = this.workers.find(
      (one) =>
        notExcluded.keeps(one, request) && holdsArtifact.keeps(one, request) && continues.keeps(one, request),
    );
    if (chosen === undefined) throw new ServiceError(ErrorCode.UNAVAILABLE, 'No other worker.');
    return chosen;
  }
}

export class Ears implements GenerationSink {
  readonly updates: RequestUpdate[] = [];
  readonly errors: ServiceError[] = [];

  onUpdate(update: RequestUpdate): void {
    this.updates.push(update);
  }

  onError(error: ServiceError): void {
    this.errors.push(error);
  }
}

export function asked(over: Partial<GenerationRequest> = {}): GenerationRequest {
  return {
    requestId: 'r',
    model: 'm',
    prompt: { $case: 'text', value: 'hello' },
    sampling: SamplingParams.fromPartial({}),
    attention: undefined,
    sessionId: undefined,
    caller: undefined,
    timeoutMs: undefined,
    receivedAt: performance.now(),
    credits: 8,
    ...over,
  };
}

export const token = (over: Partial<RequestUpdate> = {}): RequestUpdate =>
  Update.fromPartial({
    deltas: [{ choice: 0, tokenIds: [1], text: 'a' }],
    usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
    ...over,
  });

export const failed = (code: ErrorCode, retryable: boolean): RequestUpdate =>
  Update.fromPartial({ error: { code, message: 'It failed.', field: 'x', retryable }, done: true });
