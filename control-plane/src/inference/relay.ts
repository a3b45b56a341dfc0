// One request on its way: call -> relay, another worker when the one it is on fails, one deadline, one end. Its client sees one stream:
// what a lost worker had told is in the transcript, and the next one goes on from there.
// Whatever happens (last update, error, lost worker, deadline, cancel, shutdown) goes through #end, exactly once.
import type { ModelDescription, RequestUpdate, Submit, Usage } from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import { shortDigest } from '../artifacts/states.js';
import { ServiceError, toServiceError } from '../errors/service-error.js';
import type { ArtifactPin } from '../rollouts/canary.js';
import type { Metrics } from '../telemetry/metrics.js';
import type {
  CallListener,
  ReplayNeeds,
  RouteRequest,
  WorkerCall,
  WorkerFleet,
  WorkerSnapshot,
} from '../workers/api.js';
import type { FailoverLimits, Standing } from './failover.js';
import { decide, failureIn, isHung, refusedReplay } from './failover.js';
import type { Generation, GenerationRequest, GenerationSink } from './generation-request.js';
import type { SeededSampling } from './seed.js';
import { Transcript } from './transcript.js';

export interface Router {
  /** Throws ServiceError: NOT_FOUND for an unknown model, UNAVAILABLE or OVERLOADED when no worker can take it. */
  route(request: RouteRequest): WorkerSnapshot;
}

export interface RelayParts {
  readonly fleet: Pick<WorkerFleet, 'call'>;
  readonly router: Router;
  readonly metrics: Metrics;
  readonly limits: FailoverLimits;
}

export interface RelayStart {
  readonly request: GenerationRequest;
  readonly sampling: SeededSampling;
  readonly route: Omit<RouteRequest, 'exclude' | 'replay' | 'artifactDigest'>;
  readonly artifact: ArtifactPin;
  /** Unique in this process; the client's id need not be. */
  readonly wireId: string;
  readonly timeoutMs: number;
  readonly onEnd: (relay: Relay) => void;
}

/** What the first worker to answer fixes for all that follow. */
interface Pinned {
  readonly artifactDigest: string;
  readonly needs: ReplayNeeds;
}

export class Relay implements Generation {
  readonly #transcript: Transcript;
  /** Incarnations of workers that have failed it. */
  readonly #excluded = new Set<string>();
  readonly #expiresAt: number;
  #deadline: NodeJS.Timeout | undefined;
  #worker: WorkerSnapshot | undefined;
  #call: WorkerCall | undefined;
  /** Counts calls; news of an older one is not heard. */
  #attempt = 0;
  /** The worker it is on has told nothing yet. */
  #silent = true;
  #retries = 0;
  #replays = 0;
  #pinned: Pinned | undefined;
  /** The artifact to begin under; '' is any. */
  #wanted: string;
  /** Steps with deltas the client will take; undefined is unlimited. */
  #credits: number | undefined;
  /** Since when the worker owes news. */
  #waitingSince = 0;
  /** The first worker lost after the client had news of it. */
  #loss: ServiceError | undefined;
  #ended = false;
  /** Digest of the artifact that its first token came under. */
  #answeredBy = '';
  #usage: Usage | undefined;

  constructor(
    private readonly parts: RelayParts,
    private readonly start: RelayStart,
    private readonly sink: GenerationSink,
  ) {
    const { receivedAt, credits } = start.request;
    this.#expiresAt = receivedAt + start.timeoutMs;
    this.#wanted = start.artifact.digest;
    this.#credits = credits === 0 ? undefined : credits;
    this.#transcript = new Transcript(start.sampling.echo ?? false, parts.limits.replayMaxTokens);
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

  get replays(): number {
    return this.#replays;
  }

  get usage(): Usage | undefined {
    if (this.#usage === undefined) return undefined;
    // Workers tell the usage first and last: between, the transcript knows more.
    const completionTokens = Math.max(this.#usage.completionTokens, this.#transcript.tokens);
    return { ...this.#usage, completionTokens };
  }

  get #assigned(): WorkerSnapshot {
    if (this.#worker === undefined) throw new Error('a relay has no worker before begin()');
    return this.#worker;
  }

  /** Routes and calls. Throws ServiceError when no worker takes the request; the sink hears nothing then. */
  begin(): void {
    try {
      this.#place();
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
    if (this.#ended) return;
    if (this.#credits !== undefined) {
      if (this.#credits <= 0) this.#waitingSince = performance.now();
      this.#credits += steps;
    }
    this.#call?.credit(steps);
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

  /**
   * Moves to another worker when the one it waits for no longer steps. Stays where it is when there is no better one: a slow answer is
   * worth more than none.
   * @param steppedAt of its worker; undefined when that has left the fleet
   */
  hedge(now: number, steppedAt: number | undefined): void {
    const { hedgeAfter } = this.parts.limits;
    const call = this.#call;
    if (this.#ended || call === undefined || (this.#credits ?? 1) <= 0) return;
    if (!isHung({ now, since: this.#waitingSince, steppedAt }, hedgeAfter)) return;
    const { workerId, incarnation } = this.#assigned;
    const failure = new ServiceError(
      ErrorCode.WORKER_LOST,
      `The worker ${workerId} no longer steps; try again.`,
    );
    const next = decide(this.#standing, failure, this.parts.limits);
    if (next !== 'retry' && next !== 'replay') return;
    this.#excluded.add(incarnation);
    try {
      this.#place({ steppedSince: now - hedgeAfter });
    } catch {
      return;
    }
    call.cancel();
    this.#count(next, 'hung', failure);
  }

  get #standing(): Standing {
    return {
      begun: this.#transcript.begun,
      silent: this.#silent,
      retries: this.#retries,
      replays: this.#replays,
      kept: this.#transcript.kept,
      remainingMs: this.#remainingMs(),
    };
  }

  /** Finds a worker and calls it; one that has just gone is passed over. Throws the reason why there is none. */
  #place(needs: ReplayNeeds = {}): void {
    let gone: ServiceError | undefined;
    for (;;) {
      let worker: WorkerSnapshot;
      try {
        worker = this.#route(needs);
      } catch (error) {
        throw gone ?? error;
      }
      const attempt = this.#attempt + 1;
      try {
        this.#call = this.parts.fleet.call(worker.workerId, this.#submit(attempt), this.#listener(attempt));
      } catch (error) {
        const failure = toServiceError(error);
        if (!failure.retryable) throw failure;
        gone ??= failure;
        this.#excluded.add(worker.incarnation);
        continue;
      }
      this.#worker = worker;
      this.#attempt = attempt;
      this.#silent = true;
      this.#waitingSince = performance.now();
      return;
    }
  }

  /** Nobody waits for an experiment: a canary that no worker can take now is answered under what is active. */
  #route(needs: ReplayNeeds): WorkerSnapshot {
    try {
      return this.#choose(needs);
    } catch (error) {
      if (!this.#isCanary) throw error;
      this.#wanted = '';
      return this.#choose(needs);
    }
  }

  /** Meant for an artifact that it can do without, and not begun. */
  get #isCanary(): boolean {
    return this.#pinned === undefined && this.#wanted !== '' && !this.start.artifact.required;
  }

  #choose(needs: ReplayNeeds): WorkerSnapshot {
    const all = { ...this.#pinned?.needs, ...needs };
    return this.parts.router.route({
      ...this.start.route,
      exclude: this.#excluded,
      artifactDigest: this.#artifactDigest,
      replay: Object.keys(all).length === 0 ? undefined : all,
    });
  }

  get #artifactDigest(): string {
    return this.#pinned?.artifactDigest ?? this.#wanted;
  }

  #submit(attempt: number): Submit {
    const { request, sampling, wireId } = this.start;
    return {
      // A name of its own each time: the worker may still be about to cancel the one before.
      requestId: attempt === 1 ? wireId : `${wireId}.${attempt}`,
      prompt: request.prompt,
      sampling,
      attention: request.attention,
      resume: this.#transcript.begun ? this.#transcript.resume() : [],
      // 0 would be unlimited; a client that has stopped reading gets one step more than it had room for.
      credits: this.#credits === undefined ? 0 : Math.max(1, this.#credits),
      timeoutMs: Math.ceil(this.#remainingMs()),
      artifactDigest: this.#artifactDigest,
    };
  }

  #listener(attempt: number): CallListener {
    const isCurrent = (): boolean => !this.#ended && attempt === this.#attempt;
    return {
      onUpdate: (update) => {
        if (!isCurrent()) return;
        const failure = failureIn(update);
        if (failure === undefined) this.#relay(update);
        else this.#failed(failure);
      },
      onLost: (error) => {
        if (isCurrent()) this.#failed(error);
      },
    };
  }

  #relay(update: RequestUpdate): void {
    const arrived = performance.now();
    const { metrics } = this.parts;
    const transcript = this.#transcript;
    if (update.deltas.length > 0) {
      if (!transcript.begun) {
        this.#answeredBy = update.artifactDigest;
        this.#pin(update.artifactDigest);
        metrics.firstTokenSeconds.observe(this.#labels, this.#secondsSinceReceived());
      }
      if (this.#credits !== undefined) this.#credits -= 1;
    }
    this.#waitingSince = arrived;
    this.#silent = false;
    transcript.take(update);
    const usage = transcript.usage(update.usage);
    this.#usage = usage ?? this.#usage;
    try {
      this.sink.onUpdate(usage === update.usage ? update : { ...update, usage });
    } catch (error) {
      // A door that cannot tell the news cannot tell later ones either.
      this.abort(toServiceError(error));
      return;
    }
    metrics.relaySeconds.observe((performance.now() - arrived) / 1000);
    if (update.done) this.#close();
  }

  /** Tokens depend on the model, and unless they attend densely on the settings and the artifact too. */
  #pin(artifactDigest: string): void {
    const { fingerprint, settingsDigest, backend } = this.model;
    const dense = (this.start.request.attention?.backend ?? backend) === 'dense';
    this.#pinned = dense
      ? { artifactDigest: '', needs: { fingerprint } }
      : { artifactDigest, needs: { fingerprint, settingsDigest } };
  }

  #failed(error: ServiceError): void {
    const standing = this.#standing;
    this.#call = undefined;
    // A worker that has just let the canary go may take the request without it.
    const letGo = this.#isCanary && error.code === ErrorCode.FAILED_PRECONDITION;
    if (this.#isCanary) this.#wanted = '';
    if (!letGo) this.#excluded.add(this.#assigned.incarnation);
    const told = refusedReplay(standing, error) && !error.retryable ? (this.#loss ?? error) : error;
    const next = decide(standing, error, this.parts.limits);
    if (next === 'retry' || next === 'replay') {
      try {
        this.#place();
      } catch {
        if (next === 'replay') this.parts.metrics.replaysMissed.inc({ cause: 'no_worker' });
        this.#end(told); // The failure says more than "nobody else is there".
        return;
      }
      this.#count(next, error.row.name, error);
      return;
    }
    if (next !== 'end') this.parts.metrics.replaysMissed.inc({ cause: next.slice('end: '.length) });
    this.#end(told);
  }

  #count(next: 'retry' | 'replay', reason: string, failure: ServiceError): void {
    const { metrics } = this.parts;
    if (next === 'retry') {
      this.#retries += 1;
      metrics.retries.inc({ reason });
      return;
    }
    this.#loss ??= failure;
    this.#replays += 1;
    metrics.replays.inc({ reason });
    metrics.replayedTokens.inc(this.#transcript.tokens);
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
    const { usage } = this;
    if (usage !== undefined) {
      this.parts.metrics.promptTokens.inc(this.#labels, usage.promptTokens);
      this.parts.metrics.completionTokens.inc(this.#labels, usage.completionTokens);
    }
    this.start.onEnd(this);
  }

  get #labels(): { model: string; artifact: string } {
    return { model: this.model.id, artifact: shortDigest(this.#answeredBy) };
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
