// R3: chooses the worker for a request, or says in the client's words why none can take it.
// The prefix index learns here, at the choice: by the time the worker reports, the next request of the conversation is routed.
import { Inject, Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import { ModelsService } from '../models/models.service.js';
import type { RouteRequest, WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import { continues, hasRoom, holdsArtifact, isReady, notExcluded, servesModel } from './filters/filters.js';
import { maxScorePicker } from './picker.js';
import type { Filter, WeightedScorer } from './policy.js';
import { totalScores } from './policy.js';
import { PrefixIndex } from './prefix-index.js';
import { freeBlocksScorer } from './scorers/free-blocks.js';
import { prefixScorer } from './scorers/prefix.js';
import { queueScorer } from './scorers/queue.js';
import { sessionScorer } from './scorers/session.js';
import { yieldsUnderImbalance } from './scorers/yields.js';

/** Workers rejoin within a second or two of a restart. */
const RETRY_UNAVAILABLE_S = 2;
const RETRY_OVERLOADED_S = 1;

@Injectable()
export class RoutingService {
  readonly #index: PrefixIndex;
  readonly #scorers: readonly WeightedScorer[];
  #known = new Set<string>();

  constructor(
    @Inject(WORKER_FLEET) private readonly fleet: WorkerFleet,
    @Inject(ModelsService) private readonly models: Pick<ModelsService, 'served' | 'isExpected'>,
    @Inject(CONFIG) config: Config,
  ) {
    this.#index = new PrefixIndex(config.routePrefixEntries);
    const affinity = (scorer: WeightedScorer['scorer']): WeightedScorer['scorer'] =>
      yieldsUnderImbalance(scorer, config.routeImbalance);
    this.#scorers = [
      { scorer: queueScorer, weight: config.routeQueueWeight },
      { scorer: freeBlocksScorer, weight: config.routeBlocksWeight },
      { scorer: affinity(prefixScorer(this.#index)), weight: config.routePrefixWeight },
      { scorer: affinity(sessionScorer), weight: config.routeSessionWeight },
    ];
    fleet.onChange(() => {
      this.#forgetGone();
    });
  }

  /**
   * @param request model must be an id; `resolveModel` turns an absent one into the only model served
   * @throws ServiceError NOT_FOUND for an unknown model, UNAVAILABLE when no worker serves it now, OVERLOADED when all are full
   */
  route(request: RouteRequest): WorkerSnapshot {
    const all = this.fleet.snapshots();
    const keep = (workers: readonly WorkerSnapshot[], filter: Filter): WorkerSnapshot[] =>
      workers.filter((worker) => filter.keeps(worker, request));

    const serving = keep(all, servesModel);
    if (serving.length === 0) throw this.#noModel(request.model);
    const ready = keep(serving, isReady);
    if (ready.length === 0) throw unavailable(`No worker that serves "${request.model}" is ready`, serving);
    const open = keep(ready, notExcluded);
    if (open.length === 0) throw unavailable(`No other worker serves "${request.model}"`, ready);
    const holding = keep(open, holdsArtifact);
    if (holding.length === 0) {
      throw unavailable(`No worker of "${request.model}" holds artifact ${request.artifactDigest}`, open);
    }
    const able = keep(holding, continues);
    if (able.length === 0) throw unavailable(`No worker can go on with this request`, holding);
    const candidates = keep(able, hasRoom);
    if (candidates.length === 0) {
      throw new ServiceError(
        ErrorCode.OVERLOADED,
        `Every worker that serves "${request.model}" is full; try again in a moment.`,
        { retryAfterSeconds: RETRY_OVERLOADED_S },
      );
    }

    const scores = totalScores(this.#scorers, candidates, request);
    const chosen = candidates[maxScorePicker(candidates, scores, request)];
    if (chosen === undefined) throw new Error('the picker chose no candidate');
    this.#index.record(request.prefixHashes, chosen.workerId);
    return chosen;
  }

  /** The model a request means: its own, or the only one served when it names none. */
  resolveModel(model: string): string {
    if (model !== '') return model;
    const served = this.models.served().map(({ id }) => id);
    if (served.length === 1 && served[0] !== undefined) return served[0];
    if (served.length === 0) throw unavailable('No worker has joined yet', []);
    throw invalidArgument('model', `model is required; served here: ${served.join(', ')}.`);
  }

  #noModel(model: string): ServiceError {
    const served = this.models.served().map(({ id }) => id);
    if (this.models.isExpected(model)) return unavailable(`No worker serves "${model}" right now`, []);
    if (served.length === 0) return unavailable('No worker has joined yet', []);
    return new ServiceError(
      ErrorCode.NOT_FOUND,
      `The model "${model}" is not served here; served: ${served.join(', ')}.`,
      { field: 'model', openaiCode: 'model_not_found' },
    );
  }

  #forgetGone(): void {
    const now = new Set(this.fleet.snapshots().map((worker) => worker.workerId));
    for (const workerId of this.#known) if (!now.has(workerId)) this.#index.forget(workerId);
    this.#known = now;
  }
}

function unavailable(what: string, workers: readonly WorkerSnapshot[]): ServiceError {
  const states = workers.map((worker) => `${worker.workerId} is ${worker.state}`).join(', ');
  return new ServiceError(
    ErrorCode.UNAVAILABLE,
    `${what}${states === '' ? '' : ` (${states})`}; try again in a moment.`,
    { retryAfterSeconds: RETRY_UNAVAILABLE_S },
  );
}
