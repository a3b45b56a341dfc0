// The leader's look at every deployment: what the rule says of its rollout is written, then what each worker should hold. Two writes,
// in that order and each a transaction: whatever is killed between them, the next look finds the rollout where it is and workers told
// otherwise, and writes the rest. Nothing is remembered from look to look that matters.
import { Inject, Injectable } from '@nestjs/common';
import { eq } from 'drizzle-orm';
import type { DeploymentRow } from '../deployments/deployment-rows.js';
import { activate } from '../deployments/deployment-rows.js';
import { ServiceError } from '../errors/service-error.js';
import { deployments, rollouts, workers } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { setSlots } from '../workers/desired-state.js';
import { Registry } from '../workers/registry.js';
import type { Decided, RolloutWorker } from './decide.js';
import { decide } from './decide.js';
import { desiredAway, desiredSlots, sameSlots } from './desired-slots.js';
import type { RolloutMove, RolloutRow } from './rollout-rows.js';
import { move, StaleRollout, stateOf, underWay } from './rollout-rows.js';
import type { SeenWorker, WorkerRow } from './rollout-workers.js';
import { markOf, RolloutWorkers } from './rollout-workers.js';
import { hasEnded } from './rollout.js';

@Injectable()
export class Reconciler {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(Registry) private readonly registry: Pick<Registry, 'flush'>,
    @Inject(RolloutWorkers) private readonly seen: RolloutWorkers,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /** [async] One look at everything. Rejects when the database fails; the next look makes up for it. */
  async look(): Promise<void> {
    await this.registry.flush();
    const { deployed, rows, moving } = await this.storage.query(async (db) => ({
      deployed: await db.select().from(deployments),
      moving: await underWay(db),
      rows: await db
        .select({
          id: workers.id,
          modelId: workers.modelId,
          modelFingerprint: workers.modelFingerprint,
          generation: workers.generation,
          slots: workers.slots,
        })
        .from(workers),
    }));
    const byId = new Map<string, WorkerRow>(rows.map((row) => [row.id, row]));
    const looked: { deployment: DeploymentRow; rollout: RolloutRow | undefined; here: SeenWorker[] }[] = [];
    const failures: unknown[] = [];
    const lookAt = async (before: DeploymentRow): Promise<void> => {
      const found = moving.find(({ deploymentId }) => deploymentId === before.id);
      const here = this.seen.of(before, found?.candidate, byId);
      const rollout = found && (await this.#advance(found, before, here));
      // A rollout that has just ended has changed its deployment.
      const deployment =
        rollout !== undefined && hasEnded(rollout.phase) ? await this.#again(before) : before;
      looked.push({ deployment, rollout, here });
      await this.#direct(deployment, rollout, here, byId);
    };
    // What fails of one deployment is not the others' affair.
    for (const each of deployed) await lookAt(each).catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures[0];
    const joined = new Set(looked.flatMap(({ here }) => here.map(({ id }) => id)));
    await this.#directAway(
      rows.filter(({ id }) => !joined.has(id)),
      looked,
    );
  }

  /** The rollout as it is after the one move that is due. */
  async #advance(
    row: RolloutRow,
    deployment: DeploymentRow,
    here: readonly RolloutWorker[],
  ): Promise<RolloutRow> {
    const now = new Date();
    const decided = decide(stateOf(row, deployment.activeArtifact), here, now.getTime());
    if (decided.decision.kind === 'wait') return row;
    try {
      return await this.#move(row, decided, here, now);
    } catch (error) {
      if (error instanceof StaleRollout) return row; // An operator was faster.
      // Retired, say, since it was staged: it may not become active, so it goes back.
      if (!(error instanceof ServiceError) || error.retryable) throw error;
      return this.#write(row, takenBack('failed', error.message, row, now, decided));
    }
  }

  async #move(
    row: RolloutRow,
    decided: Decided,
    here: readonly RolloutWorker[],
    now: Date,
  ): Promise<RolloutRow> {
    const { decision, readings } = decided;
    const common = { actor: actorOf(row), at: now, readings };
    switch (decision.kind) {
      case 'wait':
        return row;
      case 'hold': {
        const mark = markOf(here, [row.stable, row.candidate], now.getTime());
        return this.#write(row, {
          ...common,
          kind: 'hold',
          set: { heldSince: now, mark, origin: row.origin ?? mark },
        });
      }
      case 'enter': {
        const { phase, wave } = decision;
        return this.#write(row, {
          ...common,
          kind: phase === 'canary' ? 'canary' : 'wave',
          set: { phase, wave, phaseStarted: now, heldSince: null, mark: null },
        });
      }
      case 'roll_back':
        return this.#write(row, takenBack(decision.outcome, decision.reason, row, now, decided));
      case 'end': {
        const { phase, reason } = decision;
        const set = { phase, ...(reason === undefined ? {} : { reason: joinReasons(row.reason, reason) }) };
        return this.#write(row, { ...common, kind: phase, reason: reason ?? '', set });
      }
    }
  }

  /** One transaction. The deployment's row is locked before the rollout's, as every other writer does. */
  #write(row: RolloutRow, change: RolloutMove): Promise<RolloutRow> {
    return this.storage.transaction(async (db) => {
      if (change.set.phase === 'done') {
        await activate(db, {
          deployment: row.deploymentId,
          digest: row.candidate,
          actor: actorOf(row),
          by: 'rollout',
          reason: `rollout ${row.id} is done`,
        });
      }
      const after = await move(db, row, change);
      const { id, deploymentId: deployment, phase, wave } = after;
      this.log.info(
        { rollout: id, deployment, phase, wave, reason: change.reason === '' ? undefined : change.reason },
        `rollout: ${change.kind}`,
      );
      return after;
    });
  }

  async #direct(
    deployment: DeploymentRow,
    rollout: RolloutRow | undefined,
    here: readonly SeenWorker[],
    rows: ReadonlyMap<string, WorkerRow>,
  ): Promise<void> {
    const wanted = desiredSlots(
      { active: deployment.activeArtifact, asJoined: deployment.activatedBy === 'join' },
      rollout && stateOf(rollout, deployment.activeArtifact),
      here,
    );
    const changed = here.flatMap(({ id, told }) => {
      const row = rows.get(id);
      const slots = wanted.get(id) ?? told;
      return row === undefined || sameSlots(slots, told) ? [] : [{ row, slots }];
    });
    if (changed.length === 0) return;
    await this.storage.transaction(async (db) => {
      // Only as long as the rollout stands where this was derived from.
      if (rollout !== undefined && !(await this.#stands(db, rollout))) return;
      for (const { row, slots } of changed) await setSlots(db, row, slots);
    });
  }

  /** Locks the row, so that an operator's word waits for these writes and is followed by the next look's. */
  async #stands(db: Transaction, { id, version }: RolloutRow): Promise<boolean> {
    const [now] = await db
      .select({ version: rollouts.version })
      .from(rollouts)
      .where(eq(rollouts.id, id))
      .for('share');
    return now?.version === version;
  }

  async #directAway(
    away: readonly WorkerRow[],
    looked: readonly { deployment: DeploymentRow; rollout: RolloutRow | undefined }[],
  ): Promise<void> {
    const changed = away.flatMap((row) => {
      const own = looked.filter(
        ({ deployment }) =>
          deployment.modelId === row.modelId && deployment.modelFingerprint === row.modelFingerprint,
      );
      const slots = desiredAway(
        row.slots,
        own.map(({ deployment, rollout }) => ({
          active: deployment.activeArtifact,
          candidate:
            rollout === undefined || hasEnded(rollout.phase) || rollout.phase === 'rolling_back'
              ? undefined
              : rollout.candidate,
        })),
      );
      return slots === undefined ? [] : [{ row, slots }];
    });
    if (changed.length === 0) return;
    await this.storage.transaction(async (db) => {
      for (const { row, slots } of changed) await setSlots(db, row, slots);
    });
  }

  async #again({ id }: DeploymentRow): Promise<DeploymentRow> {
    const [row] = await this.storage.query((db) =>
      db.select().from(deployments).where(eq(deployments.id, id)),
    );
    if (row === undefined) throw new Error(`deployment ${id} vanished`);
    return row;
  }
}

function takenBack(
  outcome: 'rolled_back' | 'aborted' | 'failed',
  reason: string,
  row: RolloutRow,
  at: Date,
  { readings }: Decided,
): RolloutMove {
  return {
    kind: 'roll_back',
    actor: actorOf(row),
    at,
    reason,
    readings,
    set: { phase: 'rolling_back', outcome, reason, phaseStarted: at, heldSince: null },
  };
}

function actorOf({ id }: RolloutRow): string {
  return `rollout:${id}`;
}

function joinReasons(first: string, second: string): string {
  return first === '' ? second : `${first}; ${second}`;
}
