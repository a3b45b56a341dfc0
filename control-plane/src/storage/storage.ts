// The one gate to the database. It opens in the background: the doors serve and workers join meanwhile, and whoever needs a row
// waits in `query`. Nothing is acknowledged before its row is committed, so opening late cannot lose anything.
import { ErrorCode } from '@spotlight/proto';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { drizzle } from 'drizzle-orm/node-postgres';
import { Client, Pool } from 'pg';
import type { Log } from '../telemetry/log.js';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import { EmbeddedDatabase } from './embedded.js';
import { migrateDatabase } from './migrate.js';
import { databaseError, isTransient } from './database-error.js';
import * as schema from './schema.js';

export type Database = NodePgDatabase<typeof schema>;
/** What work inside a transaction writes by; good until it commits. */
export type Transaction = Parameters<Parameters<Database['transaction']>[0]>[0];

const CONNECT_MS = 10_000;
const QUERY_MS = 30_000;
/** Beside a Postgres that starts at the same time as we do. */
const WAIT_FOR_POSTGRES_MS = 60_000;
const RETRY_MS = 500;

export class Storage {
  /** Resolves when the schema is in force; rejects with a ServiceError that says what to do. */
  readonly ready: Promise<void>;
  readonly #db: Database;
  #closed = false;

  private constructor(
    private readonly pool: Pool,
    private readonly embedded: EmbeddedDatabase | undefined,
    private readonly log: Log,
    private readonly url?: string,
  ) {
    this.#db = drizzle(pool, { schema });
    // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
    pool.on('error', (error) => {
      if (!this.#closed) log.warn({ err: error }, 'a database connection broke');
    });
    // One that is closing hears no more from the pool, and may still be told that the server stops.
    pool.on('connect', (client) => {
      client.on('error', () => undefined);
    });
    this.ready = this.#open();
    // Whoever awaits `ready` sees the failure; without this an early one would end the process before anyone can.
    this.ready.catch(() => undefined);
  }

  /**
   * Claims the data folder at once and opens the database in the background.
   * @throws ServiceError FAILED_PRECONDITION when the data folder cannot be used or another process has it
   */
  static async start(
    config: Pick<Config, 'data' | 'databaseUrl' | 'databasePool'>,
    log: Log,
  ): Promise<Storage> {
    const limits = { connectionTimeoutMillis: CONNECT_MS, query_timeout: QUERY_MS };
    if (config.databaseUrl !== undefined) {
      const pool = new Pool({
        ...limits,
        connectionString: config.databaseUrl,
        max: config.databasePool,
        application_name: 'spotlight-serve',
      });
      return new Storage(pool, undefined, log, config.databaseUrl);
    }
    const embedded = await EmbeddedDatabase.claim(config.data, log);
    const pool = new Pool({
      ...limits,
      host: embedded.socketDir,
      user: 'postgres',
      database: 'postgres',
      max: 1,
      idleTimeoutMillis: 0,
    });
    return new Storage(pool, embedded, log);
  }

  /** @throws ServiceError UNAVAILABLE when the database does not answer; a constraint's error passes as it is */
  async query<T>(work: (db: Database) => Promise<T>): Promise<T> {
    await this.ready;
    try {
      return await work(this.#db);
    } catch (error) {
      throw databaseError(error) ?? error;
    }
  }

  /** One transaction; work must not keep the handle, nor call `query`: the embedded database has one connection. */
  transaction<T>(work: (db: Transaction) => Promise<T>): Promise<T> {
    return this.query((db) => db.transaction(work));
  }

  /**
   * A connection beside the pool, for what lives as long as a session does. The caller ends it. undefined on the embedded database,
   * which has one connection and one process.
   */
  async session(): Promise<Client | undefined> {
    await this.ready;
    if (this.url === undefined) return undefined;
    const client = new Client({
      connectionString: this.url,
      connectionTimeoutMillis: CONNECT_MS,
      query_timeout: QUERY_MS,
      keepAlive: true,
      application_name: 'spotlight-serve',
    });
    await client.connect();
    return client;
  }

  /** Waits for what is in flight. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.ready.catch(() => undefined);
    await this.pool.end();
    await this.embedded?.close();
  }

  async #open(): Promise<void> {
    const began = performance.now();
    try {
      await this.embedded?.open();
      await this.#migrate(began);
    } catch (error) {
      throw error instanceof ServiceError
        ? error
        : (databaseError(error) ??
            new ServiceError(ErrorCode.FAILED_PRECONDITION, 'The database cannot be used.', {
              cause: error,
            }));
    }
    this.log.info(
      { kind: this.embedded ? 'embedded' : 'postgres', ms: Math.round(performance.now() - began) },
      'the database is open',
    );
  }

  async #migrate(began: number): Promise<void> {
    for (;;) {
      try {
        await migrateDatabase(this.pool);
        return;
      } catch (error) {
        const waited = performance.now() - began;
        if (this.#closed || this.embedded || !isTransient(error) || waited > WAIT_FOR_POSTGRES_MS)
          throw error;
        this.log.warn({ err: error }, 'the database does not answer yet; trying again');
        await sleep(RETRY_MS);
      }
    }
  }
}
