// When a request goes to another worker: pure rules over what has happened to it so far. Before the first token that is a retry, which
// costs little; after it a replay, in which the new worker runs the prompt and all tokens so far again.
import type { RequestUpdate } from '@spotlight/proto';
import { ErrorCode, FinishReason } from '@spotlight/proto';
import type { Config } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';

export type FailoverLimits = Pick<Config, 'replayLimit' | 'replayMaxTokens' | 'hedgeAfter'>;

/** The first worker and one more. */
const MAX_RETRIES = 1;

/** How a request stands when the worker it was on has failed it. */
export interface Standing {
  /** The client has had news. */
  readonly begun: boolean;
  /** The worker that failed had told nothing itself. */
  readonly silent: boolean;
  readonly retries: number;
  readonly replays: number;
  /** Whether all tokens so far have been kept. */
  readonly kept: boolean;
  readonly remainingMs: number;
}

export type Decision = 'retry' | 'replay' | 'end' | 'end: limit' | 'end: length';

export function decide(standing: Standing, failure: ServiceError, limits: FailoverLimits): Decision {
  const { begun, retries, replays, kept, remainingMs } = standing;
  if (remainingMs <= 0) return 'end';
  if (!begun) return failure.retryable && retries < MAX_RETRIES ? 'retry' : 'end';
  if (!failure.retryable && !refusedReplay(standing, failure)) return 'end';
  if (replays >= limits.replayLimit) return 'end: limit';
  return kept ? 'replay' : 'end: length';
}

/**
 * A worker that will not continue what another began (a smaller context, an artifact it has just let go) says so in words for its
 * submit; the client's request was good, so what it is told of is the worker it lost.
 */
export function refusedReplay(standing: Pick<Standing, 'begun' | 'silent'>, failure: ServiceError): boolean {
  return standing.begun && standing.silent && failure.code !== ErrorCode.DEADLINE_EXCEEDED;
}

export interface Wait {
  /** performance.now(), as all times here. */
  readonly now: number;
  /** Since when the worker owes news: the last update, the submit, or the credit that ended a pause. */
  readonly since: number;
  /** The worker's last step; undefined when it has left the fleet. */
  readonly steppedAt: number | undefined;
}

/**
 * Both the request's wait and the worker's last step are too old. Neither alone would do: a long prompt waits while the worker steps, and
 * a worker whose every client reads slowly does not step.
 */
export function isHung({ now, since, steppedAt }: Wait, hedgeAfter: number): boolean {
  return now - since > hedgeAfter && now - (steppedAt ?? Number.NEGATIVE_INFINITY) > hedgeAfter;
}

/** A worker that ends a choice by itself and gives no error has still not answered the request. */
export function failureIn(update: RequestUpdate): ServiceError | undefined {
  if (update.error !== undefined) return ServiceError.fromWire(update.error);
  if (!update.done) return undefined;
  for (const { finishReason } of update.deltas) {
    if (finishReason === FinishReason.ERROR) {
      return new ServiceError(ErrorCode.INTERNAL, 'The worker failed on this request and gave no reason.');
    }
    if (finishReason === FinishReason.CANCELLED) {
      return new ServiceError(ErrorCode.WORKER_LOST, 'The worker gave the request up; send it again.');
    }
  }
  return undefined;
}
