// One line and one count a request, the same from both doors. Prompts and generated text never enter: a log outlives consent.
import { Inject, Injectable } from '@nestjs/common';
import type { Usage } from '@spotlight/proto';
import { LOG } from './log.js';
import type { Log } from './log.js';
import { Metrics } from './metrics.js';

/** What a door learns of a request on its way, to be told when it ends. */
export class RequestRecord {
  readonly receivedAt = performance.now();
  model: string | undefined;
  workerId: string | undefined;
  usage: Usage | undefined;

  constructor(
    readonly door: 'http' | 'grpc',
    /** The route's pattern or the method's name, never a path with ids in it. */
    public route: string,
    readonly requestId: string,
  ) {}
}

export interface Outcome {
  /** `ok` or the name of a row of errors/table.ts; a metric label. */
  readonly name: string;
  /** HTTP or gRPC status. */
  readonly status: number;
  readonly error?: unknown;
}

@Injectable()
export class RequestLog {
  constructor(
    @Inject(LOG) private readonly log: Log,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  ended(record: RequestRecord, outcome: Outcome): void {
    const { door, route, requestId, model, workerId, usage, receivedAt } = record;
    const seconds = (performance.now() - receivedAt) / 1000;
    this.metrics.requests.inc({ door, route, outcome: outcome.name });
    this.metrics.requestSeconds.observe({ door, route }, seconds);
    this.log.info(
      {
        requestId,
        door,
        route,
        outcome: outcome.name,
        status: outcome.status,
        ms: Math.round(seconds * 1e5) / 100,
        model,
        worker: workerId,
        promptTokens: usage?.promptTokens,
        completionTokens: usage?.completionTokens,
        err: outcome.error,
      },
      'request',
    );
  }
}
