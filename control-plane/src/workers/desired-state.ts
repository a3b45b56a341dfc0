// What each worker should be, as rows, and the directive that says so. Generations are drawn from a sequence of the database,
// so they grow over restarts and over replicas, and a worker can ignore whatever is older than what it has.
import { Inject, Injectable } from '@nestjs/common';
import { Directive, ErrorCode } from '@spotlight/proto';
import { eq, sql } from 'drizzle-orm';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import { workers } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import { Fleet } from './fleet.js';
import { Registry } from './registry.js';

@Injectable()
export class DesiredState {
  constructor(
    @Inject(Storage) private readonly storage: Storage,
    @Inject(Registry) private readonly registry: Registry,
    @Inject(Fleet) private readonly fleet: Fleet,
    @Inject(CONFIG) private readonly config: Pick<Config, 'reportInterval'>,
  ) {}

  /** Tells a worker that has just joined. Waits for the database. */
  async greet(workerId: string): Promise<void> {
    const rows = await this.storage.query((db) => db.select().from(workers).where(eq(workers.id, workerId)));
    this.fleet.direct(workerId, this.#directive(rows[0] ?? { drain: false, generation: 0n }));
  }

  /**
   * Lets a worker finish what it has and take nothing new, or takes that back. In force when this resolves, and after a restart.
   * @throws ServiceError NOT_FOUND for a worker never seen
   */
  async setDrain(workerId: string, drain: boolean): Promise<void> {
    await this.registry.flush();
    const rows = await this.storage.query((db) =>
      db
        .update(workers)
        .set({ drain, generation: sql`nextval('directive_generation')` })
        .where(eq(workers.id, workerId))
        .returning(),
    );
    const row = rows[0];
    if (row === undefined) {
      throw new ServiceError(ErrorCode.NOT_FOUND, `No worker "${workerId}" has ever joined.`, {
        field: 'id',
      });
    }
    this.fleet.direct(workerId, this.#directive(row));
  }

  #directive(row: { drain: boolean; generation: bigint }): Directive {
    return Directive.fromPartial({ ...row, slots: [], reportIntervalMs: this.config.reportInterval });
  }
}
