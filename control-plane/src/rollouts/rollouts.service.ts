// What an operator may do with rollouts. Every order is one transaction and is refused with its reason before anything is written;
// the loop then does what it says, on whichever replica leads.
import { randomBytes } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import { and, asc, eq, notInArray } from 'drizzle-orm';
import type { ArtifactRow } from '../artifacts/artifact-rows.js';
import { lockArtifact, moveArtifact } from '../artifacts/artifact-rows.js';
import { refusedIn, shortDigest } from '../artifacts/states.js';
import type { DeploymentRow } from '../deployments/deployment-rows.js';
import { checkModel, lockDeployment, pin } from '../deployments/deployment-rows.js';
import { invalidArgument, ServiceError } from '../errors/service-error.js';
import { deployments, rollouts } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';
import { RolloutLoop } from './loop.js';
import type { RolloutMove, RolloutRow } from './rollout-rows.js';
import { findRollout, move, record } from './rollout-rows.js';
import type { Plan } from './rollout.js';
import { ENDED, hasEnded } from './rollout.js';

export interface StartOrder {
  /** Id; undefined is the only one there is. */
  readonly deployment: string | undefined;
  /** Digest. */
  readonly artifact: string;
  readonly plan: Plan;
  /** Also an artifact that has not passed its validation. */
  readonly force: boolean;
  readonly actor: string;
  readonly reason: string;
}

export type Order = 'pause' | 'resume' | 'promote' | 'abort';

@Injectable()
export class RolloutsService {
  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'transaction'>,
    @Inject(RolloutLoop) private readonly loop: Pick<RolloutLoop, 'beat'>,
  ) {}

  /**
   * @returns the rollout's id
   * @throws ServiceError NOT_FOUND; CONFLICT while another is under way; FAILED_PRECONDITION for an artifact that may not be rolled out here
   */
  async start(order: StartOrder): Promise<string> {
    const { actor, artifact: digest, plan, reason } = order;
    const row = await this.storage.transaction(async (db) => {
      const deployment = await lockDeployment(db, order.deployment ?? (await onlyDeployment(db)));
      await refuseSecond(db, deployment);
      const candidate = await lockArtifact(db, digest);
      const stable = await this.#checkPair(db, deployment, candidate);
      await admit(db, candidate, order);
      await pin(db, deployment.id, actor);
      const now = new Date();
      const [made] = await db
        .insert(rollouts)
        .values({
          id: `ro-${randomBytes(6).toString('hex')}`,
          deploymentId: deployment.id,
          stable,
          candidate: digest,
          phase: 'staging',
          plan,
          phaseStarted: now,
          createdBy: actor,
          created: now,
          changed: now,
        })
        .returning();
      if (made === undefined) throw new Error('a rollout was written and is not there');
      await record(db, made, { kind: 'start', actor, reason, at: now }, null);
      return made;
    });
    void this.loop.beat();
    return row.id;
  }

  /** @throws ServiceError NOT_FOUND, CONFLICT when it has just moved, FAILED_PRECONDITION when it is past that */
  async order(id: string, order: Order, actor: string, reason: string): Promise<void> {
    await this.storage.transaction(async (db) => {
      const row = await findRollout(db, id);
      if (hasEnded(row.phase)) throw tooLate(row, order);
      const set = await effect(db, row, order, reason);
      if (set === undefined) return;
      await move(db, row, { kind: order, actor, reason, at: new Date(), set });
    });
    void this.loop.beat();
  }

  /** The digest it would go back to. */
  async #checkPair(db: Transaction, deployment: DeploymentRow, candidate: ArtifactRow): Promise<string> {
    checkModel(deployment, candidate);
    const { activeArtifact } = deployment;
    const name = shortDigest(candidate.digest);
    if (activeArtifact === null) {
      throw refused(
        `Deployment "${deployment.id}" serves densely, so there is nothing to compare with or to go back to; start its workers with ` +
          'an artifact (--artifact) first.',
        'deployment_dense',
      );
    }
    if (activeArtifact === candidate.digest) {
      throw refused(
        `Deployment "${deployment.id}" answers with artifact ${name} already.`,
        'artifact_active',
      );
    }
    if (candidate.blob === null) {
      throw refused(
        `The bytes of artifact ${name} are not here, so workers could not fetch them; push the file.`,
        'artifact_without_bytes',
      );
    }
    const other = misfit(candidate, await lockArtifact(db, activeArtifact));
    if (other !== undefined) {
      throw refused(
        `Artifact ${name} has ${other}, and the two that a worker holds at once must agree: this is a roll-out to other workers. ` +
          'Start workers with --artifact and let those that run drain.',
        'artifact_needs_workers',
      );
    }
    return activeArtifact;
  }
}

async function onlyDeployment(db: Transaction): Promise<string> {
  const rows = await db
    .select({ id: deployments.id })
    .from(deployments)
    .orderBy(asc(deployments.id))
    .limit(10);
  const [first] = rows;
  if (first === undefined) {
    throw new ServiceError(
      ErrorCode.NOT_FOUND,
      'There is no deployment yet; one is made when the first worker of a model joins.',
      { field: 'deployment', openaiCode: 'deployment_not_found' },
    );
  }
  if (rows.length === 1) return first.id;
  throw invalidArgument(
    'deployment',
    `deployment is required; there are ${rows.map(({ id }) => id).join(', ')}.`,
    'missing_required_parameter',
  );
}

async function refuseSecond(db: Transaction, { id }: DeploymentRow): Promise<void> {
  const [running] = await db
    .select({ id: rollouts.id, phase: rollouts.phase })
    .from(rollouts)
    .where(and(eq(rollouts.deploymentId, id), notInArray(rollouts.phase, [...ENDED])));
  if (running === undefined) return;
  throw new ServiceError(
    ErrorCode.CONFLICT,
    `Deployment "${id}" has a rollout under way (${running.id}, ${running.phase}); wait for its end, or abort it.`,
    { field: 'deployment', openaiCode: 'rollout_under_way' },
  );
}

/** Validated, or forced through, which its audit line says. */
async function admit(db: Transaction, row: ArtifactRow, { force, actor }: StartOrder): Promise<void> {
  if (row.state === 'validated' || row.state === 'active') return;
  if (!force || row.state === 'retired') throw refusedIn(row.state, row.digest, 'rolled out');
  await moveArtifact(db, row, {
    event: 'pass',
    actor,
    wanted: 'rolled out',
    reason: 'a rollout was forced past its validation',
  });
}

/** In what the two artifacts differ that a worker's planes share. */
function misfit(candidate: ArtifactRow, stable: ArtifactRow): string | undefined {
  if (candidate.encoder !== stable.encoder) return `encoder ${candidate.encoder}, not ${stable.encoder}`;
  if (candidate.bits !== stable.bits) return `${candidate.bits} bits a code, not ${stable.bits}`;
  const [ours, others] = [candidate.layers, stable.layers];
  if (ours !== null && others !== null && ours.join() !== others.join())
    return 'other dense layers than the active one';
  return undefined;
}

/** What an order changes; undefined when it is so already. */
async function effect(
  db: Transaction,
  row: RolloutRow,
  order: Order,
  reason: string,
): Promise<RolloutMove['set'] | undefined> {
  const now = new Date();
  if (row.phase === 'rolling_back') {
    if (order === 'abort') return undefined;
    throw tooLate(row, order);
  }
  switch (order) {
    case 'pause':
      return row.paused ? undefined : { paused: true };
    case 'resume':
      // Its time begins anew: a pause must not use up the phase.
      return row.paused ? { paused: false, phaseStarted: now } : undefined;
    case 'promote': {
      const { state, digest } = await lockArtifact(db, row.candidate);
      if (state !== 'validated' && state !== 'active') throw refusedIn(state, digest, 'promoted');
      return row.forced && !row.paused ? undefined : { forced: true, paused: false, phaseStarted: now };
    }
    case 'abort':
      return {
        phase: 'rolling_back',
        outcome: 'aborted',
        reason: reason === '' ? 'aborted by its operator' : reason,
        phaseStarted: now,
        heldSince: null,
        paused: false,
      };
  }
}

function tooLate({ id, phase }: RolloutRow, order: Order): ServiceError {
  const state = phase === 'rolling_back' ? 'is being rolled back' : `has ended (${phase})`;
  return refused(`Rollout ${id} ${state}; there is nothing left to ${order}.`, 'rollout_ended');
}

function refused(message: string, openaiCode: string): ServiceError {
  return new ServiceError(ErrorCode.FAILED_PRECONDITION, message, { openaiCode });
}
