// Brings a database to this build's schema. Replicas that start together take turns by an advisory lock, which Postgres drops
// with its connection, so that a killed migrator blocks nobody. PGlite runs the very same statements.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ErrorCode } from '@spotlight/proto';
import { sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import type { Pool } from 'pg';
import { ServiceError } from '../errors/service-error.js';

/** SQL is not compiled: beside the source it is found from dist/storage too. */
const FOLDER = fileURLToPath(new URL('../../src/storage/migrations', import.meta.url));
/** Any number no other program's migrations use; "spotlight" in ASCII, cut to 63 bits. */
const LOCK = 0x73706f746c6967n;
const LEAST_VERSION = 150_000;

interface Journal {
  readonly entries: readonly { readonly when: number }[];
}

/** @throws ServiceError FAILED_PRECONDITION for a server or a schema that this build cannot work with */
export async function migrateDatabase(pool: Pool): Promise<void> {
  const client = await pool.connect();
  const db = drizzle(client);
  try {
    const version = await db.execute<{ version: string; number: number }>(
      sql`select current_setting('server_version') as version, current_setting('server_version_num')::int as number`,
    );
    const server = version.rows[0];
    if (server !== undefined && server.number < LEAST_VERSION) {
      throw new ServiceError(
        ErrorCode.FAILED_PRECONDITION,
        `The database is Postgres ${server.version}; version 15 or newer is needed.`,
        { field: 'database-url' },
      );
    }
    await db.execute(sql`select pg_advisory_lock(${LOCK})`);
    try {
      await migrate(db, { migrationsFolder: FOLDER });
      await refuseNewer(db);
    } finally {
      await db.execute(sql`select pg_advisory_unlock(${LOCK})`);
    }
  } finally {
    client.release();
  }
}

async function refuseNewer(db: NodePgDatabase): Promise<void> {
  const journal = JSON.parse(readFileSync(`${FOLDER}/meta/_journal.json`, 'utf8')) as Journal;
  const newest = Math.max(...journal.entries.map((entry) => entry.when));
  const { rows } = await db.execute<{ newest: string }>(
    sql`select max(created_at) as newest from drizzle.__drizzle_migrations`,
  );
  if (Number(rows[0]?.newest ?? 0) > newest) {
    throw new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      'The database was written by a newer version of Spotlight Serve; start that version, or use another database.',
    );
  }
}
