// Draft -> validated: a worker of the deployment measures the artifact on its built-in text, and judge.ts holds that against what is
// active. The measuring changes nothing that requests see; the verdict is one transaction. Killed meanwhile, it is simply asked again.
import { Inject, Injectable } from '@nestjs/common';
import type { ValidateResponse } from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import { eq, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { checkModel } from '../deployments/deployment-rows.js';
import type { DeploymentRow } from '../deployments/deployment-rows.js';
import { DeploymentsService } from '../deployments/deployments.service.js';
import { ServiceError } from '../errors/service-error.js';
import type { ArtifactQuality } from '../storage/schema.js';
import { artifacts } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { WorkerSnapshot } from '../workers/api.js';
import { Fleet } from '../workers/fleet.js';
import type { ArtifactRow } from './artifact-rows.js';
import { lockArtifact, moveArtifact } from './artifact-rows.js';
import { ArtifactsService } from './artifacts.service.js';
import { whyRejected } from './judge.js';
import { nextState, refusedIn, shortDigest } from './states.js';

export interface ValidationRequest {
  /** Id; undefined takes the first that serves the artifact's model with a worker ready. */
  readonly deployment: string | undefined;
  /** Lets an artifact pass that does not reach the bar; the audit log says who did. */
  readonly force: boolean;
  readonly actor: string;
}

export interface Verdict {
  readonly artifact: ArtifactRow;
  readonly deployment: string;
  readonly passed: boolean;
  /** What fell short; empty when nothing did. */
  readonly reason: string;
  readonly quality: ArtifactQuality;
  /** What it was held against; null where the deployment has no active artifact that could be measured. */
  readonly baseline: ArtifactQuality | null;
}

@Injectable()
export class Validation {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(ArtifactsService) private readonly artifactRows: Pick<ArtifactsService, 'row'>,
    @Inject(DeploymentsService) private readonly deployments: DeploymentsService,
    @Inject(Fleet) private readonly fleet: Pick<Fleet, 'validate'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /**
   * @throws ServiceError NOT_FOUND, FAILED_PRECONDITION (retired, other model, not loadable beside the active artifact), UNAVAILABLE (no
   * worker is ready, or its slots are taken; try again)
   */
  async validate(digest: string, request: ValidationRequest): Promise<Verdict> {
    const row = await this.artifactRows.row(digest);
    if (nextState(row.state, 'pass') === undefined) throw refusedIn(row.state, row.digest, 'validated');
    const { deployment, worker } = await this.#place(row, request.deployment);
    const quality = await this.#measure(worker, row.digest);
    const baseline = await this.#baseline(deployment, worker, row.digest);
    const short = whyRejected(quality, {
      baseline: baseline ?? undefined,
      leastQuality: deployment.leastQuality,
    });
    const forced = short !== undefined && request.force;
    const passed = short === undefined || forced;
    const told: ArtifactQuality = forced ? { ...quality, forcedOver: short } : quality;
    const artifact = await this.storage.transaction(async (db) =>
      moveArtifact(db, await lockArtifact(db, row.digest), {
        event: passed ? 'pass' : 'fail',
        actor: request.actor,
        wanted: 'validated',
        reason: forced ? `forced, though ${short}` : (short ?? ''),
        set: { quality: told },
      }),
    );
    return { artifact, deployment: deployment.id, passed, reason: short ?? '', quality: told, baseline };
  }

  async #place(
    row: ArtifactRow,
    id: string | undefined,
  ): Promise<{ deployment: DeploymentRow; worker: WorkerSnapshot }> {
    const candidates =
      id === undefined
        ? (await this.deployments.list()).filter((each) => each.modelFingerprint === row.fingerprint)
        : [await this.deployments.get(id)];
    for (const deployment of candidates) {
      checkModel(deployment, row);
      const worker = leastBusy(this.deployments.workersOf(deployment));
      if (worker !== undefined) return { deployment, worker };
    }
    throw new ServiceError(
      ErrorCode.UNAVAILABLE,
      `No worker that could validate artifact ${shortDigest(row.digest)} is ready; start one of its model, or wait.`,
      { openaiCode: 'no_worker' },
    );
  }

  async #measure(worker: WorkerSnapshot, digest: string): Promise<ArtifactQuality> {
    const measured = await this.fleet.validate(worker.workerId, digest);
    return qualityOf(measured, worker);
  }

  /** What the active artifact reaches under the same settings: measured once, kept in its row. */
  async #baseline(
    { id, activeArtifact, settingsDigest }: DeploymentRow,
    worker: WorkerSnapshot,
    candidate: string,
  ): Promise<ArtifactQuality | null> {
    if (activeArtifact === null || activeArtifact === candidate) return null;
    const known = (await this.artifactRows.row(activeArtifact)).quality;
    if (known !== null && known.settingsDigest === settingsDigest) return known;
    try {
      const quality = await this.#measure(worker, activeArtifact);
      await this.#keep(activeArtifact, quality, worker);
      return quality;
    } catch (error) {
      if (!(error instanceof ServiceError) || error.retryable) throw error;
      this.log.warn(
        { err: error, deployment: id, artifact: activeArtifact },
        'the active artifact could not be measured; the one validated is held against fixed floors',
      );
      return null;
    }
  }

  #keep(digest: string, quality: ArtifactQuality, worker: WorkerSnapshot): Promise<void> {
    return this.storage.transaction(async (db) => {
      await db
        .update(artifacts)
        .set({ quality, changed: sql`now()` })
        .where(eq(artifacts.digest, digest));
      await audit(db, {
        ...{
          actor: `worker:${worker.workerId}`,
          action: 'artifact.measure',
          kind: 'artifact',
          object: digest,
        },
        after: { quality },
        reason: 'as the baseline of a validation',
      });
    });
  }
}

function leastBusy(workers: readonly WorkerSnapshot[]): WorkerSnapshot | undefined {
  const busy = ({ load, inFlight }: WorkerSnapshot): number => load.running + load.waiting + inFlight;
  return workers.filter(({ state }) => state === 'ready').sort((a, b) => busy(a) - busy(b))[0];
}

function qualityOf(measured: ValidateResponse, { workerId, device, model }: WorkerSnapshot): ArtifactQuality {
  return {
    iou: measured.iou,
    keptMass: measured.keptMass,
    layers: measured.layers.map(({ layer, iou, keptMass }) => ({ layer, iou, keptMass })),
    workerId,
    device,
    settingsDigest: model.settingsDigest,
    at: new Date().toISOString(),
  };
}
