// One line and one count a request, the same from both doors. Prompts and generated text never enter: a log outlives consent.
import { Inject, Injectable } from '@nestjs/common';
import type { Usage } from '@spotlight/proto';
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Principal } from '../auth/auth.service.js';
import { callerOf } from '../auth/auth.service.js';
import { NO_LIMITS } from '../auth/limits.js';
import type { ServiceError } from '../errors/service-error.js';
import type { Log } from './log.js';
import { LOG } from './log.js';
import { Metrics } from './metrics.js';

/** What a door learns of a request on its way, told when it ends. */
export class RequestRecord {
  readonly receivedAt = performance.now();
  model: string | undefined;
  /** The worker that served it last. */
  workerId: string | undefined;
  /** How often another worker went on with it. */
  replays = 0;
  usage: Usage | undefined;
  /** Id of the API key. */
  caller: string | undefined;
  /** Of that key. */
  limits = NO_LIMITS;
  /** `ok` or the name of a row of errors/table.ts. */
  outcome = 'ok';
  /** What an unforeseen error was, for the log: the client is not told. */
  cause: unknown;

  constructor(
    readonly door: 'http' | 'grpc',
    readonly requestId: string,
  ) {}

  from(principal: Principal): void {
    this.caller = callerOf(principal);
    this.limits = principal.limits;
  }

  /** Prompt and generated tokens, as far as known. */
  get tokens(): number {
    return (this.usage?.promptTokens ?? 0) + (this.usage?.completionTokens ?? 0);
  }

  fail(error: ServiceError): void {
    this.outcome = error.row.name;
    this.cause = error.cause;
  }
}

const records = new WeakMap<ServerResponse, RequestRecord>();

/** The record of an HTTP request by its response. The log's middleware stands first, so there is one. */
export function recordOf(response: ServerResponse): RequestRecord {
  const record = records.get(response);
  if (record === undefined) throw new Error('the request log is not installed before this route');
  // The guard leaves the principal on the request, after this record was made.
  const { principal } = response.req as { principal?: Principal };
  if (principal !== undefined) record.from(principal);
  return record;
}

/** The client's id when it is one that can stand in a header and a log line, or a new one. */
export function requestIdFrom(given: string | undefined): string {
  return given !== undefined && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

@Injectable()
export class RequestLog {
  constructor(
    @Inject(LOG) private readonly log: Log,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  /** Express middleware, first in line: gives every request its record and its x-request-id. */
  readonly middleware = (request: IncomingMessage, response: ServerResponse, next: () => void): void => {
    const given = request.headers['x-request-id'];
    const record = new RequestRecord('http', requestIdFrom(typeof given === 'string' ? given : undefined));
    records.set(response, record);
    response.setHeader('x-request-id', record.requestId);
    response.on('close', () => {
      if (!response.writableFinished && record.outcome === 'ok') record.outcome = 'cancelled';
      this.ended(recordOf(response), routeOf(request), response.statusCode);
    });
    next();
  };

  /** @param route the route's pattern or the method's name, never a path with ids in it: it is a metric label */
  ended(record: RequestRecord, route: string, status: number): void {
    const { door, requestId, caller, model, workerId, replays, usage, receivedAt, outcome, cause } = record;
    const seconds = (performance.now() - receivedAt) / 1000;
    this.metrics.requests.inc({ door, route, outcome });
    this.metrics.requestSeconds.observe({ door, route }, seconds);
    const quiet = PROBES.has(route) ? 'debug' : 'info';
    this.log[cause === undefined ? quiet : 'error'](
      {
        requestId,
        door,
        route,
        caller,
        outcome,
        status,
        ms: Math.round(seconds * 1e5) / 100,
        model,
        worker: workerId,
        replays: replays === 0 ? undefined : replays,
        promptTokens: usage?.promptTokens,
        completionTokens: usage?.completionTokens,
        err: cause,
      },
      'request',
    );
  }
}

/** Asked every few seconds by machines. */
const PROBES: ReadonlySet<string> = new Set(['/healthz', '/livez', '/readyz', '/metrics']);

/** Express sets `route` on the request once one has matched. */
function routeOf(request: IncomingMessage): string {
  const { route } = request as { route?: { path?: unknown } };
  return typeof route?.path === 'string' ? route.path : 'unmatched';
}
