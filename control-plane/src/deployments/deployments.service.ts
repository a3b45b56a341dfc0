// Deployments as the API and the other rooms see them: listed with what is live of them, and changed by their operator. Their rows come
// by join.ts, their active artifact by deployment-rows.ts.
import { Inject, Injectable } from '@nestjs/common';
import { asc, eq, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { deployments } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import type { DeploymentKey } from './deployment-id.js';
import type { DeploymentRow } from './deployment-rows.js';
import { lockDeployment, unknownDeployment } from './deployment-rows.js';

/** What an operator may change of a deployment by hand; its artifact changes by a rollout. */
export type DeploymentChange = Partial<Pick<DeploymentRow, 'description' | 'leastQuality'>>;

export function keyOf({ model }: Pick<WorkerSnapshot, 'model'>): DeploymentKey {
  return {
    modelId: model.id,
    modelFingerprint: model.fingerprint,
    settingsDigest: model.settingsDigest,
  };
}

export function isOf(worker: Pick<WorkerSnapshot, 'model'>, deployment: DeploymentKey): boolean {
  const { model } = worker;
  return (
    model.id === deployment.modelId &&
    model.fingerprint === deployment.modelFingerprint &&
    model.settingsDigest === deployment.settingsDigest
  );
}

@Injectable()
export class DeploymentsService {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots'>,
  ) {}

  /** By id. */
  list(): Promise<DeploymentRow[]> {
    return this.storage.query((db) => db.select().from(deployments).orderBy(asc(deployments.id)));
  }

  /** @throws ServiceError NOT_FOUND */
  async get(id: string): Promise<DeploymentRow> {
    const [row] = await this.storage.query((db) =>
      db.select().from(deployments).where(eq(deployments.id, id)),
    );
    if (row === undefined) throw unknownDeployment(id);
    return row;
  }

  /** Those of its workers that this replica sees, dead ones aside. */
  workersOf(deployment: DeploymentKey): WorkerSnapshot[] {
    return this.fleet.snapshots().filter((worker) => worker.state !== 'dead' && isOf(worker, deployment));
  }

  /** @throws ServiceError NOT_FOUND */
  change(id: string, change: DeploymentChange, actor: string): Promise<DeploymentRow> {
    return this.storage.transaction(async (db) => {
      const before = await lockDeployment(db, id);
      const [after] = await db
        .update(deployments)
        .set({ ...change, changed: sql`now()` })
        .where(eq(deployments.id, id))
        .returning();
      if (after === undefined) throw new Error('a deployment vanished under its lock');
      const told = ({ description, leastQuality }: DeploymentRow): Record<string, unknown> => ({
        description,
        leastQuality,
      });
      await audit(db, {
        actor,
        action: 'deployment.change',
        kind: 'deployment',
        object: id,
        before: told(before),
        after: told(after),
      });
      return after;
    });
  }
}
