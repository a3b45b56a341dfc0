// A deployment's active artifact, changed in one place for rollouts, operators and joining workers alike: the deployment's row, both
// artifacts' states, the generation of directives and the audit lines move together in the caller's transaction, or not at all.
// Rows are locked in one order, the deployment before artifacts, these by digest: two changes wait for each other, never for ever.
import { ErrorCode } from '@spotlight/proto';
import { eq, sql } from 'drizzle-orm';
import type { ArtifactRow } from '../artifacts/artifact-rows.js';
import { lockArtifact, moveArtifact } from '../artifacts/artifact-rows.js';
import { shortDigest } from '../artifacts/states.js';
import { audit } from '../audit/audit-log.js';
import { ServiceError } from '../errors/service-error.js';
import { deployments } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';

export type DeploymentRow = typeof deployments.$inferSelect;

export interface Activation {
  /** Id of the deployment. */
  readonly deployment: string;
  readonly digest: string;
  /** Audit log: id of the key, `rollout:ID`, `worker:ID`. */
  readonly actor: string;
  readonly by: DeploymentRow['activatedBy'];
  readonly reason?: string;
}

export function unknownDeployment(id: string): ServiceError {
  return new ServiceError(
    ErrorCode.NOT_FOUND,
    `There is no deployment "${id}"; one is made when the first worker of a model joins.`,
    { field: 'deployment', openaiCode: 'deployment_not_found' },
  );
}

/** [async] Locked until the transaction ends. @throws ServiceError NOT_FOUND */
export async function lockDeployment(db: Transaction, id: string): Promise<DeploymentRow> {
  const [row] = await db.select().from(deployments).where(eq(deployments.id, id)).for('update');
  if (row === undefined) throw unknownDeployment(id);
  return row;
}

/** @throws ServiceError FAILED_PRECONDITION when the artifact was made for another model */
export function checkModel(
  deployment: Pick<DeploymentRow, 'id' | 'modelFingerprint'>,
  artifact: Pick<ArtifactRow, 'digest' | 'fingerprint'>,
): void {
  if (artifact.fingerprint === deployment.modelFingerprint) return;
  throw new ServiceError(
    ErrorCode.FAILED_PRECONDITION,
    `Artifact ${shortDigest(artifact.digest)} was made for model ${shortDigest(artifact.fingerprint)}, and deployment ` +
      `"${deployment.id}" serves ${shortDigest(deployment.modelFingerprint)}; choose one made for it.`,
    { field: 'digest', openaiCode: 'artifact_mismatch' },
  );
}

/**
 * [async] Makes an artifact the deployment's active one; the one before goes back to validated when no deployment has it any more.
 * The same artifact again changes only who chose it.
 * @throws ServiceError NOT_FOUND, or FAILED_PRECONDITION for an artifact of another model, not validated, retired, or without bytes
 */
export async function activate(db: Transaction, activation: Activation): Promise<DeploymentRow> {
  const { deployment: id, digest, actor, by, reason = '' } = activation;
  const before = await lockDeployment(db, id);
  const old = before.activeArtifact;
  const locked = new Map<string, ArtifactRow>();
  for (const each of [...new Set(old === null ? [digest] : [old, digest])].sort()) {
    locked.set(each, await lockArtifact(db, each));
  }
  const next = locked.get(digest);
  if (next === undefined) throw new Error('an artifact was locked and is not there');
  checkModel(before, next);
  const joined = by === 'join';
  if (next.blob === null && !joined) {
    throw new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The bytes of artifact ${shortDigest(digest)} are not here yet; they come from the worker that has them.`,
      { field: 'digest', openaiCode: 'artifact_without_bytes' },
    );
  }
  const event = joined ? 'adopt' : 'activate';
  if (old !== digest) await moveArtifact(db, next, { event, actor, wanted: 'made active', reason });

  const [after] = await db
    .update(deployments)
    .set({
      activeArtifact: digest,
      activatedBy: by,
      generation: sql`nextval('directive_generation')`,
      changed: sql`now()`,
    })
    .where(eq(deployments.id, id))
    .returning();
  if (after === undefined) throw new Error('a deployment vanished under its lock');
  const replaced = old === null || old === digest ? undefined : locked.get(old);
  if (replaced !== undefined && !(await isActive(db, replaced.digest))) {
    await moveArtifact(db, replaced, { event: 'supersede', actor, wanted: 'replaced', reason });
  }
  await audit(db, {
    actor,
    action: 'deployment.activate',
    kind: 'deployment',
    object: id,
    before: { activeArtifact: old, activatedBy: before.activatedBy },
    after: { activeArtifact: digest, activatedBy: by },
    reason,
  });
  return after;
}

/**
 * [async] From now on only rollouts and operators choose the artifact: a worker that joins with another on its command line is told to
 * change instead of being followed. Every rollout begins with it, since its workers go over one by one before the deployment does.
 * @throws ServiceError NOT_FOUND
 */
export async function pin(db: Transaction, id: string, actor: string): Promise<DeploymentRow> {
  const before = await lockDeployment(db, id);
  if (before.activatedBy !== 'join') return before;
  const [after] = await db
    .update(deployments)
    .set({ activatedBy: 'operator', changed: sql`now()` })
    .where(eq(deployments.id, id))
    .returning();
  if (after === undefined) throw new Error('a deployment vanished under its lock');
  await audit(db, {
    actor,
    action: 'deployment.pin',
    kind: 'deployment',
    object: id,
    before: { activatedBy: before.activatedBy },
    after: { activatedBy: after.activatedBy },
  });
  return after;
}

/** [async] Whether a deployment answers with it. */
async function isActive(db: Transaction, digest: string): Promise<boolean> {
  const rows = await db
    .select({ id: deployments.id })
    .from(deployments)
    .where(eq(deployments.activeArtifact, digest))
    .limit(1);
  return rows.length > 0;
}
