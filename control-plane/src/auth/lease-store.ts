// What replicas share of a key's use, in two tables. Every statement is atomic by itself, so no replica trusts another's memory:
// requests are leased in slices before they are used, places in leases that end, tokens are added when they have been used.
import { Inject, Injectable } from '@nestjs/common';
import { and, eq, gt, inArray, lt, ne, sql } from 'drizzle-orm';
import { apiKeys, keySlots, keyUsage } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';

/** Tokens of a key over all replicas. */
export interface Spent {
  readonly life: number;
  readonly minute: number;
}

/** The row of all of a key's life. */
const LIFE = 0;

@Injectable()
export class LeaseStore {
  constructor(@Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>) {}

  /**
   * Leases up to `wanted` of what the minute has left.
   * @returns what was granted, 0 when nothing is left, and what all replicas have leased
   */
  async draw(
    keyId: string,
    minute: number,
    wanted: number,
    limit: number,
  ): Promise<{ granted: number; used: number }> {
    return this.storage.transaction(async (db) => {
      const at = { keyId, kind: 'requests' as const, minute };
      await db
        .insert(keyUsage)
        .values({ ...at, used: 0 })
        .onConflictDoNothing();
      const where = and(
        eq(keyUsage.keyId, keyId),
        eq(keyUsage.kind, 'requests'),
        eq(keyUsage.minute, minute),
      );
      // The row is locked from here to the commit: two replicas cannot both take the last of it.
      const [row] = await db.select().from(keyUsage).where(where).for('update');
      const before = row?.used ?? 0;
      const granted = Math.max(0, Math.min(wanted, limit - before));
      if (granted > 0)
        await db
          .update(keyUsage)
          .set({ used: before + granted })
          .where(where);
      return { granted, used: before + granted };
    });
  }

  /**
   * Adds tokens that were used, to the minute and to the key's life; 0 only asks.
   * @returns what all replicas have used
   */
  async spend(keyId: string, minute: number, tokens: number): Promise<Spent> {
    const rows = await this.storage.query((db) =>
      db
        .insert(keyUsage)
        .values([LIFE, minute].map((of) => ({ keyId, kind: 'tokens' as const, minute: of, used: tokens })))
        .onConflictDoUpdate({
          target: [keyUsage.keyId, keyUsage.kind, keyUsage.minute],
          set: { used: sql`${keyUsage.used} + excluded.used` },
        })
        .returning({ minute: keyUsage.minute, used: keyUsage.used }),
    );
    const of = (wanted: number): number => rows.find((row) => row.minute === wanted)?.used ?? 0;
    return { life: of(LIFE), minute: of(minute) };
  }

  /**
   * Holds up to `wanted` places of a key for this holder, in place of those it held; 0 gives them back.
   * @returns how many are held now, until `ttlMs` from now
   */
  async hold(keyId: string, holder: string, wanted: number, limit: number, ttlMs: number): Promise<number> {
    return this.storage.transaction(async (db) => {
      const own = and(eq(keySlots.keyId, keyId), eq(keySlots.holder, holder));
      if (wanted === 0) {
        await db.delete(keySlots).where(own);
        return 0;
      }
      await db.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.id, keyId)).for('update');
      const [others] = await db
        .select({ held: sql<number>`coalesce(sum(${keySlots.slots}), 0)::int` })
        .from(keySlots)
        .where(and(eq(keySlots.keyId, keyId), ne(keySlots.holder, holder), gt(keySlots.expires, sql`now()`)));
      const slots = Math.max(0, Math.min(wanted, limit - (others?.held ?? 0)));
      const expires = sql<Date>`now() + ${ttlMs} * interval '1 millisecond'`;
      await db
        .insert(keySlots)
        .values({ keyId, holder, slots, expires })
        .onConflictDoUpdate({ target: [keySlots.keyId, keySlots.holder], set: { slots, expires } });
      return slots;
    });
  }

  /** Forgets minutes that have passed, places whose lease has ended, and what these keys held here. */
  async sweep(minute: number, holder: string, gone: readonly string[]): Promise<void> {
    await this.storage.transaction(async (db) => {
      await db.delete(keyUsage).where(and(gt(keyUsage.minute, LIFE), lt(keyUsage.minute, minute)));
      await db.delete(keySlots).where(lt(keySlots.expires, sql`now()`));
      if (gone.length > 0) {
        await db.delete(keySlots).where(and(eq(keySlots.holder, holder), inArray(keySlots.keyId, [...gone])));
      }
    });
  }
}
