// A rollout as the API tells it: its row without the counters, what it waits for, what the gates say now, and how far its workers are.
// The last three are worked out at the question by the rule itself, so they cannot disagree with what happens.
import { Inject, Injectable } from '@nestjs/common';
import { eq, inArray } from 'drizzle-orm';
import type { DeploymentRow } from '../deployments/deployment-rows.js';
import { deployments, workers } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import { decide } from './decide.js';
import type { Reading } from './gates.js';
import type { RolloutEvent, RolloutRow } from './rollout-rows.js';
import { eventsOf, findRollout, listRollouts, stateOf } from './rollout-rows.js';
import { RolloutWorkers } from './rollout-workers.js';
import type { Outcome, Phase, Plan } from './rollout.js';
import { hasEnded } from './rollout.js';

export interface RolloutView {
  readonly id: string;
  readonly deployment: string;
  readonly stable: string;
  readonly candidate: string;
  /** The phase, or `paused` while it does not go on. */
  readonly state: Phase | 'paused';
  readonly phase: Phase;
  /** Index into the plan's waves. */
  readonly wave: number;
  readonly plan: Plan;
  readonly promoted: boolean;
  readonly outcome: Outcome | null;
  readonly reason: string;
  readonly createdBy: string;
  readonly created: Date;
  readonly changed: Date;
}

export interface RolloutWorkerView {
  readonly id: string;
  readonly ready: boolean;
  /** Requests may be pinned to the candidate here. */
  readonly holds: boolean;
  /** New requests run under the candidate here. */
  readonly active: boolean;
  readonly message: string;
}

export interface RolloutDetail extends RolloutView {
  /** What it waits for; empty when it has ended. */
  readonly waits: string;
  readonly gates: readonly Reading[];
  readonly workers: readonly RolloutWorkerView[];
  readonly events: readonly Omit<RolloutEvent, 'id' | 'rolloutId'>[];
}

@Injectable()
export class RolloutViews {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query'>,
    @Inject(RolloutWorkers) private readonly seen: RolloutWorkers,
  ) {}

  /** Newest first. */
  async list(deployment: string | undefined, limit: number): Promise<RolloutView[]> {
    const rows = await this.storage.query((db) => listRollouts(db, { deployment, limit }));
    return rows.map(viewOf);
  }

  /** @throws ServiceError NOT_FOUND */
  async detail(id: string): Promise<RolloutDetail> {
    return this.storage.query(async (db) => {
      const row = await findRollout(db, id);
      const [deployment] = await db.select().from(deployments).where(eq(deployments.id, row.deploymentId));
      const events = await eventsOf(db, [id]);
      if (deployment === undefined) throw new Error(`rollout ${id} has no deployment`);
      const rows = await db
        .select()
        .from(workers)
        .where(inArray(workers.modelId, [deployment.modelId]));
      return {
        ...viewOf(row),
        ...this.#now(row, deployment, rows),
        events: events.map(({ at, kind, phase, wave, actor, reason, readings }) => ({
          at,
          kind,
          phase,
          wave,
          actor,
          reason,
          readings,
        })),
      };
    });
  }

  #now(
    row: RolloutRow,
    deployment: DeploymentRow,
    rows: readonly (typeof workers.$inferSelect)[],
  ): Pick<RolloutDetail, 'waits' | 'gates' | 'workers'> {
    if (hasEnded(row.phase)) return { waits: '', gates: [], workers: [] };
    const here = this.seen.of(deployment, row.candidate, new Map(rows.map((each) => [each.id, each])));
    const { decision, readings } = decide(stateOf(row, deployment.activeArtifact), here, Date.now());
    return {
      waits: decision.kind === 'wait' ? decision.why : 'moves on at the next look',
      gates: readings,
      workers: here.map(({ id, ready, holds, active, failure }) => ({
        id,
        ready,
        holds: holds.includes(row.candidate),
        active: active === row.candidate,
        message: failure?.message ?? '',
      })),
    };
  }
}

function viewOf(row: RolloutRow): RolloutView {
  const { id, deploymentId, stable, candidate, phase, paused, wave, plan, forced, outcome, reason } = row;
  return {
    id,
    deployment: deploymentId,
    stable,
    candidate,
    state: paused && !hasEnded(phase) && phase !== 'rolling_back' ? 'paused' : phase,
    phase,
    wave,
    plan,
    promoted: forced,
    outcome,
    reason,
    createdBy: row.createdBy,
    created: row.created,
    changed: row.changed,
  };
}
