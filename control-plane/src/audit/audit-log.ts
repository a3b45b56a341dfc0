// Who changed what. A line is written in the transaction of its change, so that neither can be without the other whatever is
// killed when; the database refuses to change or remove one.
import { Inject, Injectable } from '@nestjs/common';
import { and, desc, eq, lt } from 'drizzle-orm';
import { auditLog } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';

export type AuditRow = typeof auditLog.$inferSelect;

/** What a change says of itself; `before` and `after` hold the fields that changed. */
export type AuditEntry = Pick<AuditRow, 'actor' | 'action' | 'kind' | 'object'> &
  Partial<Pick<AuditRow, 'before' | 'after' | 'reason'>>;

export interface AuditQuery {
  readonly kind?: string | undefined;
  readonly object?: string | undefined;
  readonly actor?: string | undefined;
  /** Lines before the one of this id, for the next page. */
  readonly before?: number | undefined;
  readonly limit: number;
}

/** [async] Writes one line; in force with the rest of the transaction, or not at all. */
export async function audit(db: Transaction, entry: AuditEntry): Promise<void> {
  await db.insert(auditLog).values(entry);
}

@Injectable()
export class AuditLog {
  constructor(@Inject(Storage) private readonly storage: Pick<Storage, 'query'>) {}

  /** Latest first. */
  list({ kind, object, actor, before, limit }: AuditQuery): Promise<AuditRow[]> {
    return this.storage.query((db) =>
      db
        .select()
        .from(auditLog)
        .where(
          and(
            kind === undefined ? undefined : eq(auditLog.kind, kind),
            object === undefined ? undefined : eq(auditLog.object, object),
            actor === undefined ? undefined : eq(auditLog.actor, actor),
            before === undefined ? undefined : lt(auditLog.id, before),
          ),
        )
        .orderBy(desc(auditLog.id))
        .limit(limit),
    );
  }
}
