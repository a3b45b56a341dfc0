// The rollouts under way as this replica knows them, in memory: what every request asks, which must not wait for a row. The loop
// renews it; while the database is away the last known stands, since the workers hold what they hold.
import { Inject, Injectable } from '@nestjs/common';
import { eq, notInArray } from 'drizzle-orm';
import { deployments, rollouts } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { WorkerFleet } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import type { ArtifactPin, ArtifactWish, LiveRollout } from './canary.js';
import { pinOf } from './canary.js';
import { held } from './rollout-workers.js';
import { ENDED } from './rollout.js';

@Injectable()
export class LiveRollouts {
  #live: readonly LiveRollout[] = [];

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query'>,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots'>,
  ) {}

  async refresh(): Promise<void> {
    const rows = await this.storage.query((db) =>
      db
        .select({ rollout: rollouts, modelId: deployments.modelId })
        .from(rollouts)
        .innerJoin(deployments, eq(deployments.id, rollouts.deploymentId))
        .where(notInArray(rollouts.phase, [...ENDED]))
        .orderBy(rollouts.created),
    );
    this.#live = rows.map(({ rollout: { id, stable, candidate, phase, plan }, modelId }) => ({
      id,
      modelId,
      stable,
      candidate,
      phase,
      share: plan.share,
    }));
  }

  /**
   * The artifact a request is pinned to. A share of the canary that no worker holds ready is nobody's.
   * @throws ServiceError INVALID_ARGUMENT for a wish that is none
   */
  pin(modelId: string, requestId: string, wish: ArtifactWish): ArtifactPin {
    if (this.#live.length === 0 && wish.artifact === undefined) return { digest: '', required: false };
    const pin = pinOf(
      this.#live.filter((rollout) => rollout.modelId === modelId),
      requestId,
      wish,
    );
    if (pin.digest === '' || pin.required) return pin;
    const isHeld = this.fleet
      .snapshots()
      .some(
        (worker) =>
          worker.state === 'ready' && worker.model.id === modelId && held(worker).includes(pin.digest),
      );
    return isHeld ? pin : { digest: '', required: false };
  }
}
