// What the database knows of workers and models. Memory answers at once and is written behind: seen times are coalesced and
// flushed once a second in one statement a table, so neither a join nor a token ever waits for a row.
import { Inject, Injectable } from '@nestjs/common';
import type { OnModuleDestroy } from '@nestjs/common';
import { and, desc, eq, lt, max, min, sql } from 'drizzle-orm';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { models, workers } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { WorkerSnapshot } from './api.js';

const FLUSH_MS = 1_000;
/** A worker not seen for so long, and not drained on purpose, is nobody's concern any more. */
const FORGET_MS = 7 * 24 * 3_600_000;

export interface ModelSeen {
  readonly firstSeen: Date;
  readonly lastSeen: Date;
}

export type ModelRow = typeof models.$inferSelect;
export type WorkerRow = typeof workers.$inferSelect;

@Injectable()
export class Registry implements OnModuleDestroy {
  readonly #models = new Map<string, ModelSeen>();
  readonly #dirtyModels = new Map<string, typeof models.$inferInsert>();
  readonly #dirtyWorkers = new Map<string, typeof workers.$inferInsert>();
  /** Resolves when what earlier starts knew is known here, or could not be read; never rejects. */
  readonly loaded: Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(LOG) private readonly log: Log,
  ) {
    this.loaded = this.#load();
  }

  /** A worker joined, changed its state or left: `state` is its own report, or `lost`. */
  seen(worker: WorkerSnapshot, version: string, state: WorkerSnapshot['state'] | 'lost'): void {
    const now = new Date();
    const { model } = worker;
    this.#dirtyWorkers.set(worker.workerId, {
      id: worker.workerId,
      address: worker.address,
      modelId: model.id,
      modelFingerprint: model.fingerprint,
      device: worker.device,
      version,
      state,
      firstSeen: this.#dirtyWorkers.get(worker.workerId)?.firstSeen ?? now,
      lastSeen: now,
    });
    const { architecture, layers, queryHeads, kvHeads, headDim, vocabSize, maxModelLen } = model;
    this.#dirtyModels.set(JSON.stringify([model.id, model.fingerprint]), {
      id: model.id,
      fingerprint: model.fingerprint,
      dims: { architecture, layers, queryHeads, kvHeads, headDim, vocabSize, maxModelLen },
      source: model.source,
      lastSeen: now,
    });
    this.#remember(model.id, now, now);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  model(id: string): ModelSeen | undefined {
    return this.#models.get(id);
  }

  /** Every worker ever seen, latest first, those gone included. */
  async workers(): Promise<WorkerRow[]> {
    await this.flush();
    return this.storage.query((db) => db.select().from(workers).orderBy(desc(workers.lastSeen)));
  }

  async models(): Promise<ModelRow[]> {
    await this.flush();
    return this.storage.query((db) => db.select().from(models).orderBy(desc(models.lastSeen)));
  }

  /** Writes what has been seen since the last time. A database that is away keeps it for the next time. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flushing = this.#flushing.then(() => this.#write());
    return this.#flushing;
  }

  async onModuleDestroy(): Promise<void> {
    await this.flush();
  }

  async #write(): Promise<void> {
    const modelRows = [...this.#dirtyModels];
    const workerRows = [...this.#dirtyWorkers];
    if (modelRows.length + workerRows.length === 0) return;
    this.#dirtyModels.clear();
    this.#dirtyWorkers.clear();
    try {
      await this.storage.transaction(async (db) => {
        await db
          .insert(models)
          .values(modelRows.map(([, row]) => row))
          .onConflictDoUpdate({
            target: [models.id, models.fingerprint],
            set: {
              source: sql`excluded.source`,
              dims: sql`excluded.dims`,
              lastSeen: sql`excluded.last_seen`,
            },
          });
        await db
          .insert(workers)
          .values(workerRows.map(([, row]) => row))
          .onConflictDoUpdate({
            target: workers.id,
            set: {
              address: sql`excluded.address`,
              modelId: sql`excluded.model_id`,
              modelFingerprint: sql`excluded.model_fingerprint`,
              device: sql`excluded.device`,
              version: sql`excluded.version`,
              state: sql`excluded.state`,
              lastSeen: sql`excluded.last_seen`,
            },
          });
      });
    } catch (error) {
      this.log.warn({ err: error }, 'workers seen could not be written; keeping them for the next time');
      // News that arrived meanwhile is newer than what failed.
      for (const [key, row] of modelRows) if (!this.#dirtyModels.has(key)) this.#dirtyModels.set(key, row);
      for (const [key, row] of workerRows) if (!this.#dirtyWorkers.has(key)) this.#dirtyWorkers.set(key, row);
    }
  }

  async #load(): Promise<void> {
    try {
      // Workers are often named after a port or a pod, so a busy cluster would leave rows for ever.
      await this.storage.query((db) =>
        db
          .delete(workers)
          .where(and(eq(workers.drain, false), lt(workers.lastSeen, new Date(Date.now() - FORGET_MS)))),
      );
      const rows = await this.storage.query((db) =>
        db
          .select({ id: models.id, firstSeen: min(models.firstSeen), lastSeen: max(models.lastSeen) })
          .from(models)
          .groupBy(models.id),
      );
      for (const row of rows)
        if (row.firstSeen && row.lastSeen) this.#remember(row.id, row.firstSeen, row.lastSeen);
    } catch (error) {
      this.log.warn({ err: error }, 'models seen before could not be read');
    }
  }

  #remember(id: string, firstSeen: Date, lastSeen: Date): void {
    const known = this.#models.get(id);
    this.#models.set(id, {
      firstSeen: known && known.firstSeen < firstSeen ? known.firstSeen : firstSeen,
      lastSeen: known && known.lastSeen > lastSeen ? known.lastSeen : lastSeen,
    });
  }
}
