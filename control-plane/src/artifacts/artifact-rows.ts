// Rows of artifacts as the rooms that change them need them: read under a lock, and moved by the table of states.js with its audit
// line, all inside the caller's transaction. Nobody else writes an artifact's state.
import { ErrorCode } from '@spotlight/proto';
import { eq, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { ServiceError } from '../errors/service-error.js';
import { artifacts } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import type { ArtifactEvent } from './states.js';
import { nextState, refusedIn, shortDigest } from './states.js';

export type ArtifactRow = typeof artifacts.$inferSelect;

export interface ArtifactMove {
  readonly event: ArtifactEvent;
  readonly actor: string;
  /** Completes "it cannot be …" when the table forbids the move. */
  readonly wanted: string;
  readonly reason?: string;
  /** Further fields that change with the state. */
  readonly set?: Partial<Pick<ArtifactRow, 'quality'>>;
}

export function unknownArtifact(digest: string): ServiceError {
  return new ServiceError(
    ErrorCode.NOT_FOUND,
    `There is no artifact ${digest === '' ? 'without a digest' : shortDigest(digest)}; push it first.`,
    { field: 'digest', openaiCode: 'artifact_not_found' },
  );
}

/** [async] Locked until the transaction ends. @throws ServiceError NOT_FOUND */
export async function lockArtifact(db: Transaction, digest: string): Promise<ArtifactRow> {
  const [row] = await db.select().from(artifacts).where(eq(artifacts.digest, digest)).for('update');
  if (row === undefined) throw unknownArtifact(digest);
  return row;
}

/** [async] The row as it is after the move. @throws ServiceError FAILED_PRECONDITION when the table has no such move */
export async function moveArtifact(
  db: Transaction,
  row: ArtifactRow,
  { event, actor, wanted, reason = '', set = {} }: ArtifactMove,
): Promise<ArtifactRow> {
  const state = nextState(row.state, event);
  if (state === undefined) throw refusedIn(row.state, row.digest, wanted);
  const told = state === 'rejected' || state === 'retired' ? reason : '';
  const [moved] = await db
    .update(artifacts)
    .set({ ...set, state, reason: told, changed: sql`now()` })
    .where(eq(artifacts.digest, row.digest))
    .returning();
  if (moved === undefined) throw new Error('an artifact vanished under its lock');
  await audit(db, {
    actor,
    action: `artifact.${event}`,
    kind: 'artifact',
    object: row.digest,
    before: { state: row.state },
    after: { state, ...set },
    reason,
  });
  return moved;
}
