// Rows of rollouts: every move is one transaction that changes the row, says so in rollout_events and writes the audit line. Whoever
// moves one names the version it has read, so that of two movers (an operator and the loop, or two that think they lead) one loses.
import { ErrorCode } from '@spotlight/proto';
import { and, desc, eq, inArray, notInArray, or } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { ServiceError } from '../errors/service-error.js';
import { rolloutEvents, rollouts } from '../storage/schema.js';
import type { Database, Transaction } from '../storage/storage.js';
import type { RolloutState } from './decide.js';
import type { Reading } from './gates.js';
import { ENDED } from './rollout.js';

export type RolloutRow = typeof rollouts.$inferSelect;
export type RolloutEvent = typeof rolloutEvents.$inferSelect;

export interface RolloutMove {
  /** Such as `canary` or `pause`; the audit line is `rollout.canary`. */
  readonly kind: string;
  readonly actor: string;
  readonly reason?: string;
  readonly readings?: readonly Reading[];
  readonly at: Date;
  readonly set: Partial<
    Pick<
      RolloutRow,
      | 'phase'
      | 'paused'
      | 'forced'
      | 'wave'
      | 'outcome'
      | 'reason'
      | 'phaseStarted'
      | 'heldSince'
      | 'mark'
      | 'origin'
    >
  >;
}

/** The row's own version has moved on: the caller should look again. */
export class StaleRollout extends ServiceError {
  constructor(id: string) {
    super(ErrorCode.CONFLICT, `Rollout ${id} has just moved on; look at it and ask again.`, {
      openaiCode: 'rollout_moved',
      retryable: true,
    });
  }
}

export function unknownRollout(id: string): ServiceError {
  return new ServiceError(ErrorCode.NOT_FOUND, `There is no rollout "${id}".`, {
    field: 'id',
    openaiCode: 'rollout_not_found',
  });
}

/** [async] @throws StaleRollout when the row is not as it was read */
export async function move(db: Transaction, row: RolloutRow, change: RolloutMove): Promise<RolloutRow> {
  const { kind, actor, reason = '', readings = [], at, set } = change;
  const [after] = await db
    .update(rollouts)
    .set({ ...set, version: row.version + 1, changed: at })
    .where(and(eq(rollouts.id, row.id), eq(rollouts.version, row.version)))
    .returning();
  if (after === undefined) throw new StaleRollout(row.id);
  await record(db, after, { kind, actor, reason, readings, at }, told(row));
  return after;
}

/** [async] The event and the audit line of a move, or of the beginning (`before` is null). */
export async function record(
  db: Transaction,
  after: RolloutRow,
  { kind, actor, reason = '', readings = [], at }: Omit<RolloutMove, 'set'>,
  before: Record<string, unknown> | null,
): Promise<void> {
  const { id, phase, wave } = after;
  await db
    .insert(rolloutEvents)
    .values({ rolloutId: id, at, kind, phase, wave, actor, reason, readings: [...readings] });
  await audit(db, {
    actor,
    action: `rollout.${kind}`,
    kind: 'rollout',
    object: id,
    before,
    after: told(after),
    reason,
  });
}

/** [async] Those that have not ended, oldest first. */
export function underWay(db: Database | Transaction): Promise<RolloutRow[]> {
  return db
    .select()
    .from(rollouts)
    .where(notInArray(rollouts.phase, [...ENDED]))
    .orderBy(rollouts.created);
}

/** [async] What keeps an artifact from being retired or deleted: it is rolled out just now, or is what that would go back to. */
export async function usedByRollout(db: Transaction, digest: string): Promise<string | undefined> {
  const [row] = await db
    .select()
    .from(rollouts)
    .where(
      and(
        notInArray(rollouts.phase, [...ENDED]),
        or(eq(rollouts.candidate, digest), eq(rollouts.stable, digest)),
      ),
    )
    .limit(1);
  return row === undefined ? undefined : `rollout ${row.id} of deployment "${row.deploymentId}"`;
}

/** [async] @throws ServiceError NOT_FOUND */
export async function findRollout(db: Database | Transaction, id: string): Promise<RolloutRow> {
  const [row] = await db.select().from(rollouts).where(eq(rollouts.id, id));
  if (row === undefined) throw unknownRollout(id);
  return row;
}

/** [async] Newest first. */
export function listRollouts(
  db: Database | Transaction,
  { deployment, limit }: { readonly deployment?: string | undefined; readonly limit: number },
): Promise<RolloutRow[]> {
  return db
    .select()
    .from(rollouts)
    .where(deployment === undefined ? undefined : eq(rollouts.deploymentId, deployment))
    .orderBy(desc(rollouts.created))
    .limit(limit);
}

/** [async] In the order they happened. */
export function eventsOf(db: Database | Transaction, ids: readonly string[]): Promise<RolloutEvent[]> {
  return db
    .select()
    .from(rolloutEvents)
    .where(inArray(rolloutEvents.rolloutId, [...ids]))
    .orderBy(rolloutEvents.id);
}

/** @param active the deployment's artifact */
export function stateOf(row: RolloutRow, active: string | null): RolloutState {
  return {
    ...row,
    active,
    phaseStartedMs: row.phaseStarted.getTime(),
    heldSinceMs: row.heldSince?.getTime() ?? null,
  };
}

function told({ phase, wave, paused, forced, outcome }: RolloutRow): Record<string, unknown> {
  return { phase, wave, paused, forced, outcome };
}
