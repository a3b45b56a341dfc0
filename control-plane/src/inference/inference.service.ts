// R2, the one path both doors enter: admit -> route -> call -> relay. Owns the set of requests in flight, which is what
// admission counts, shutdown drains and nothing else may touch. Authentication has happened at the door.
import type { OnModuleDestroy } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { prefixHashes } from '../routing/hash.js';
import { LiveRollouts } from '../rollouts/live-rollouts.js';
import { RoutingService } from '../routing/routing.service.js';
import { Metrics } from '../telemetry/metrics.js';
import { WORKER_FLEET } from '../workers/api.js';
import type { WorkerFleet } from '../workers/api.js';
import { Admission, stopping } from './admission.js';
import { canonicalBytes } from './canonical-bytes.js';
import type { Generation, GenerationRequest, GenerationSink } from './generation-request.js';
import type { RelayParts } from './relay.js';
import { Relay } from './relay.js';
import { withSeed } from './seed.js';
import { validateAttention, validatePrompt, validateSampling } from './validate.js';

/** Looks in this share of the time after which a worker counts as hung. */
const HEDGE_LOOKS = 4;
const LEAST_LOOK_MS = 20;

type Settings = Pick<
  Config,
  'maxRequests' | 'maxRequestsPerKey' | 'requestTimeout' | 'replayLimit' | 'replayMaxTokens' | 'hedgeAfter'
>;

@Injectable()
export class InferenceService implements OnModuleDestroy {
  readonly #inFlight = new Set<Relay>();
  readonly #parts: RelayParts;
  readonly #admission: Admission;
  #sequence = 0;
  #onIdle: (() => void) | undefined;
  #hedging: NodeJS.Timeout | undefined;
  #lookedAt = performance.now();

  constructor(
    @Inject(CONFIG) private readonly config: Settings,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'call' | 'snapshots'>,
    @Inject(RoutingService) private readonly router: Pick<RoutingService, 'route' | 'resolveModel'>,
    @Inject(Metrics) private readonly metrics: Metrics,
    @Inject(LiveRollouts) private readonly rollouts: Pick<LiveRollouts, 'pin'>,
  ) {
    this.#parts = { fleet, router, metrics, limits: config };
    this.#admission = new Admission(config);
    if (config.hedgeAfter === 0) return;
    const lookMs = Math.max(LEAST_LOOK_MS, config.hedgeAfter / HEDGE_LOOKS);
    this.#hedging = setInterval(() => {
      this.#hedge(lookMs);
    }, lookMs).unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.#hedging);
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /**
   * Starts a request. Its news come to the sink, never before this returns.
   * Throws ServiceError when it is invalid, not admitted, or no worker takes it.
   */
  generate(request: GenerationRequest, sink: GenerationSink): Generation {
    validatePrompt(request.prompt);
    validateSampling(request.sampling);
    validateAttention(request.attention);
    const model = this.router.resolveModel(request.model);
    const artifact = this.rollouts.pin(model, request.requestId, request.wish ?? {});
    this.#admission.enter(request.caller);
    const bytes = canonicalBytes(request.prompt);
    this.#sequence += 1;
    const relay = new Relay(
      this.#parts,
      {
        request,
        sampling: withSeed(request.sampling),
        route: {
          model,
          sessionId: request.sessionId,
          prefixHashes: prefixHashes(bytes),
          promptBytes: bytes.length,
        },
        artifact,
        wireId: `${request.requestId}~${this.#sequence.toString(36)}`,
        timeoutMs: Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, this.config.requestTimeout),
        onEnd: (ended) => {
          this.#leave(ended, request.caller);
        },
      },
      sink,
    );
    this.#inFlight.add(relay);
    this.metrics.inFlight.set(this.#inFlight.size);
    relay.begin();
    return relay;
  }

  /**
   * Takes nothing new and waits until every request has ended; those still running after `timeoutMs` end with UNAVAILABLE,
   * which their clients may retry on another replica.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#admission.close();
    if (this.#inFlight.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    const timer = setTimeout(() => {
      for (const relay of [...this.#inFlight]) relay.abort(stopping());
    }, timeoutMs);
    await idle;
    clearTimeout(timer);
  }

  #hedge(lookMs: number): void {
    const now = performance.now();
    const late = now - this.#lookedAt > 2 * lookMs;
    this.#lookedAt = now;
    // This process stood still itself: what workers have said meanwhile is not read yet.
    if (late || this.#inFlight.size === 0) return;
    const steppedAt = new Map(this.fleet.snapshots().map((one) => [one.workerId, one.steppedAt]));
    for (const relay of [...this.#inFlight]) relay.hedge(now, steppedAt.get(relay.workerId));
  }

  #leave(relay: Relay, caller: string | undefined): void {
    this.#inFlight.delete(relay);
    this.#admission.leave(caller);
    this.metrics.inFlight.set(this.#inFlight.size);
    if (this.#inFlight.size === 0) this.#onIdle?.();
  }
}
