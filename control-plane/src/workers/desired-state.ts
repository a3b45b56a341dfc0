// What each worker should be, as rows, and the directive that says so. Generations are drawn from a sequence of the database,
// so they grow over restarts and over replicas, and a worker can ignore whatever is older than what it has. Any replica may change a
// row, and each tells its own workers from the rows, again and again until they say that it is in force.
import { Inject, Injectable } from '@nestjs/common';
import { Directive, ErrorCode } from '@spotlight/proto';
import { and, eq, inArray, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import type { DesiredArtifact } from '../storage/schema.js';
import { workers } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import { Storage } from '../storage/storage.js';
import { Fleet } from './fleet.js';
import { Registry } from './registry.js';

/** Report intervals after which a directive that is not in force is told again: what kept it may have passed. */
const TELL_AGAIN_INTERVALS = 5;

type Desired = Pick<typeof workers.$inferSelect, 'drain' | 'generation' | 'slots'>;

/**
 * [async] Changes the artifacts a worker should hold, unless its row has changed since it was read.
 * @param generation of the row as it was read
 * @returns whether it did
 */
export async function setSlots(
  db: Transaction,
  worker: { readonly id: string; readonly generation: bigint },
  slots: readonly DesiredArtifact[],
): Promise<boolean> {
  const rows = await db
    .update(workers)
    .set({ slots, generation: sql`nextval('directive_generation')` })
    .where(and(eq(workers.id, worker.id), eq(workers.generation, worker.generation)))
    .returning({ id: workers.id });
  return rows.length > 0;
}

@Injectable()
export class DesiredState {
  /** By worker: the newest generation told over its present stream, and when. */
  readonly #told = new Map<string, { generation: bigint; at: number }>();

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(Registry) private readonly registry: Pick<Registry, 'flush'>,
    @Inject(Fleet) private readonly fleet: Pick<Fleet, 'direct' | 'snapshots' | 'detail'>,
    @Inject(CONFIG) private readonly config: Pick<Config, 'reportInterval'>,
  ) {}

  /** Tells a worker that has just joined. Waits for the database. */
  async greet(workerId: string): Promise<void> {
    this.#told.delete(workerId);
    const rows = await this.storage.query((db) => db.select().from(workers).where(eq(workers.id, workerId)));
    this.#tell(workerId, rows[0] ?? { drain: false, generation: 0n, slots: [] });
  }

  /** Tells every worker here whose row has changed, whoever changed it, and those that do not have it in force yet. */
  async refresh(): Promise<void> {
    const here = this.fleet.snapshots().map(({ workerId }) => workerId);
    for (const id of this.#told.keys()) if (!here.includes(id)) this.#told.delete(id);
    if (here.length === 0) return;
    const rows = await this.storage.query((db) =>
      db
        .select({
          id: workers.id,
          drain: workers.drain,
          generation: workers.generation,
          slots: workers.slots,
        })
        .from(workers)
        .where(inArray(workers.id, here)),
    );
    const now = performance.now();
    for (const row of rows) {
      const told = this.#told.get(row.id);
      const inForce = (this.fleet.detail(row.id)?.generation ?? 0n) >= row.generation;
      const again =
        !inForce && told !== undefined && now - told.at >= TELL_AGAIN_INTERVALS * this.config.reportInterval;
      if (row.generation > (told?.generation ?? 0n) || again) this.#tell(row.id, row);
    }
  }

  /**
   * Lets a worker finish what it has and take nothing new, or takes that back. In force when this resolves, and after a restart.
   * @throws ServiceError NOT_FOUND for a worker never seen
   */
  async setDrain(workerId: string, drain: boolean, actor: string): Promise<void> {
    await this.registry.flush();
    const row = await this.storage.transaction(async (db) => {
      const [before] = await db.select().from(workers).where(eq(workers.id, workerId)).for('update');
      const [after] = await db
        .update(workers)
        .set({ drain, generation: sql`nextval('directive_generation')` })
        .where(eq(workers.id, workerId))
        .returning();
      if (before === undefined || after === undefined) {
        throw new ServiceError(ErrorCode.NOT_FOUND, `No worker "${workerId}" has ever joined.`, {
          field: 'id',
        });
      }
      await audit(db, {
        ...{ actor, action: 'worker.drain', kind: 'worker', object: workerId },
        ...{ before: { drain: before.drain }, after: { drain } },
      });
      return after;
    });
    this.#tell(workerId, row);
  }

  #tell(workerId: string, { drain, generation, slots }: Desired): void {
    // Rows are read side by side: an older one must not be told after a newer.
    const told = this.#told.get(workerId);
    if (told !== undefined && told.generation > generation) return;
    this.#told.set(workerId, { generation, at: performance.now() });
    this.fleet.direct(
      workerId,
      Directive.fromPartial({
        generation,
        drain,
        slots: slots.map(({ digest, active }) => ({ artifactDigest: digest, active })),
        reportIntervalMs: this.config.reportInterval,
      }),
    );
  }
}
