// One request on its way: call -> relay, a second worker when the first fails before any token, one deadline, one end.
// Whatever happens (last update, error, lost worker, deadline, cancel, shutdown) goes through #end, exactly once.
import type { ModelDescription, RequestUpdate, Submit, Usage } from '@spotlight/proto';
import { ErrorCode, FinishReason } from '@spotlight/proto';
import { ServiceError, toServiceError } from '../errors/service-error.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { CallListener, RouteRequest, WorkerCall, WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import type { Generation, GenerationRequest, GenerationSink } from './generation-request.js';
import type { SeededSampling } from './seed.js';

/** The first worker and one more. */
const MAX_ATTEMPTS = 2;

export interface Router {
  /** Throws ServiceError: NOT_FOUND for an unknown model, UNAVAILABLE or OVERLOADED when no worker can take it. */
  route(request: RouteRequest): WorkerSnapshot;
}

export interface RelayParts {
  readonly fleet: Pick<WorkerFleet, 'call'>;
  readonly router: Router;
  readonly metrics: Metrics;
}

export interface RelayStart {
  readonly request: GenerationRequest;
  readonly sampling: SeededSampling;
  readonly route: Omit<RouteRequest, 'exclude'>;
  /** Unique in this process; the client's id need not be. */
  readonly wireId: string;
  readonly timeoutMs: number;
  readonly onEnd: (relay: Relay) => void;
}

export class Relay implements Generation {
  readonly #excluded = new Set<string>();
  readonly #expiresAt: number;
  #deadline: NodeJS.Timeout | undefined;
  #worker: WorkerSnapshot | undefined;
  #call: WorkerCall | undefined;
  #delivered = false;
  #ended = false;
  #usage: Usage | undefined;

  constructor(
    private readonly parts: RelayParts,
    private readonly start: RelayStart,
    private readonly sink: GenerationSink,
  ) {
    this.#expiresAt = start.request.receivedAt + start.timeoutMs;
  }

  get model(): ModelDescription {
    return this.#assigned.model;
  }

  get workerId(): string {
    return this.#assigned.workerId;
  }

  get seed(): bigint {
    return this.start.sampling.seed;
  }

  get #assigned(): WorkerSnapshot {
    if (this.#worker === undefined) throw new Error('a relay has no worker before begin()');
    return this.#worker;
  }

  /** Routes and calls. Throws ServiceError when no worker takes the request; the sink hears nothing then. */
  begin(): void {
    try {
      this.#attempt();
    } catch (error) {
      this.#close();
      throw error;
    }
    this.parts.metrics.admitSeconds.observe(this.#secondsSinceReceived());
    this.#deadline = setTimeout(() => {
      this.#call?.cancel();
      this.#end(this.#tooLate());
    }, this.#remainingMs());
  }

  credit(steps: number): void {
    if (!this.#ended) this.#call?.credit(steps);
  }

  cancel(): void {
    if (this.#ended) return;
    this.#call?.cancel();
    this.#close();
  }

  /** Ends a request this process can serve no longer. */
  abort(error: ServiceError): void {
    this.#call?.cancel();
    this.#end(error);
  }

  #attempt(): void {
    for (;;) {
      const worker = this.parts.router.route({ ...this.start.route, exclude: this.#excluded });
      this.#worker = worker;
      try {
        this.#call = this.parts.fleet.call(worker.workerId, this.#submit(), this.#listener(worker.workerId));
        return;
      } catch (error) {
        const failure = toServiceError(error);
        if (!this.#mayRetry(worker.workerId, failure)) throw failure;
      }
    }
  }

  #submit(): Submit {
    const { request, sampling, wireId } = this.start;
    return {
      requestId: wireId,
      prompt: request.prompt,
      sampling,
      attention: request.attention,
      resume: [],
      credits: request.credits,
      timeoutMs: Math.ceil(this.#remainingMs()),
      artifactDigest: '',
    };
  }

  #listener(workerId: string): CallListener {
    return {
      onUpdate: (update) => {
        if (this.#ended) return;
        if (update.error === undefined) this.#relay(update);
        else this.#failed(workerId, ServiceError.fromWire(update.error));
      },
      onLost: (error) => {
        if (!this.#ended) this.#failed(workerId, error);
      },
    };
  }

  #relay(update: RequestUpdate): void {
    const arrived = performance.now();
    const broken = update.done ? brokenFinish(update) : undefined;
    if (broken !== undefined) {
      this.#end(broken);
      return;
    }
    const { metrics } = this.parts;
    if (!this.#delivered && update.deltas.length > 0) {
      this.#delivered = true;
      metrics.firstTokenSeconds.observe({ model: this.model.id }, this.#secondsSinceReceived());
    }
    this.#usage = update.usage ?? this.#usage;
    try {
      this.sink.onUpdate(update);
    } catch (error) {
      // A door that cannot tell the news cannot tell later ones either.
      this.abort(toServiceError(error));
      return;
    }
    metrics.relaySeconds.observe((performance.now() - arrived) / 1000);
    if (update.done) this.#close();
  }

  #failed(workerId: string, error: ServiceError): void {
    this.#call = undefined;
    if (!this.#mayRetry(workerId, error)) {
      this.#end(error);
      return;
    }
    try {
      this.#attempt();
    } catch {
      this.#end(error); // The first failure says more than "nobody else is there".
    }
  }

  #mayRetry(workerId: string, error: ServiceError): boolean {
    this.#excluded.add(workerId);
    const may =
      !this.#delivered && error.retryable && this.#excluded.size < MAX_ATTEMPTS && this.#remainingMs() > 0;
    if (may) this.parts.metrics.retries.inc({ reason: error.row.name });
    return may;
  }

  #end(error: ServiceError): void {
    if (this.#ended) return;
    this.#close();
    this.sink.onError(error);
  }

  #close(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#deadline);
    if (this.#worker !== undefined && this.#usage !== undefined) {
      const labels = { model: this.#worker.model.id };
      this.parts.metrics.promptTokens.inc(labels, this.#usage.promptTokens);
      this.parts.metrics.completionTokens.inc(labels, this.#usage.completionTokens);
    }
    this.start.onEnd(this);
  }

  #remainingMs(): number {
    return Math.max(0, this.#expiresAt - performance.now());
  }

  #secondsSinceReceived(): number {
    return (performance.now() - this.start.request.receivedAt) / 1000;
  }

  #tooLate(): ServiceError {
    return new ServiceError(
      ErrorCode.DEADLINE_EXCEEDED,
      `The request was not done within ${this.start.timeoutMs} ms; ask for fewer tokens or allow more time.`,
      { field: 'timeout_ms' },
    );
  }
}

/** A worker that ends a choice by itself and gives no error has still not answered the request. */
function brokenFinish(update: RequestUpdate): ServiceError | undefined {
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
