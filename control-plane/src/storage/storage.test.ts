// One case file for both databases: the embedded one always, Postgres where its binaries are installed.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eq, sql } from 'drizzle-orm';
import { pino } from 'pino';
import { auditLog, settings, workers } from './schema.js';
import { Storage } from './storage.js';
import { TemporaryPostgres } from './temporary-postgres.fixture.js';

const log = pino({ level: 'silent' });

function sharedCases(start: () => Promise<Storage>): void {
  it('has every table of the schema, and is migrated again without a change', async () => {
    for (let round = 0; round < 2; round++) {
      const storage = await start();
      const { rows } = await storage.query((db) =>
        db.execute<{ name: string }>(
          sql`select table_name as name from information_schema.tables where table_schema = 'public' order by 1`,
        ),
      );
      assert.deepEqual(
        rows.map((row) => row.name),
        [
          'api_keys',
          'artifact_uploads',
          'artifacts',
          'audit_log',
          'deployments',
          'key_slots',
          'key_usage',
          'models',
          'rollout_events',
          'rollouts',
          'settings',
          'workers',
        ],
      );
      await storage.close();
    }
  });

  it('keeps rows over a restart, with times and bigints as they were', async () => {
    const first = await start();
    const lastSeen = new Date('2026-01-02T03:04:05.678Z');
    const row = {
      id: 'w1',
      address: 'h:1',
      modelId: 'm',
      modelFingerprint: 'f',
      device: 'cpu',
      version: '1',
      state: 'ready',
      lastSeen,
      generation: 2n ** 60n,
    };
    await first.query((db) => db.insert(workers).values(row));
    await first.close();
    const second = await start();
    const [found] = await second.query((db) => db.select().from(workers).where(eq(workers.id, 'w1')));
    assert.deepEqual(found?.lastSeen, lastSeen);
    assert.equal(found.generation, 2n ** 60n);
    await second.close();
  });

  it('lets nobody change or remove a line of the audit log', async () => {
    const storage = await start();
    await storage.query((db) =>
      db.insert(auditLog).values({ actor: 'k', action: 'artifact.retire', kind: 'artifact', object: 'd' }),
    );
    for (const statement of [
      sql`update audit_log set actor = 'nobody'`,
      sql`delete from audit_log`,
      sql`truncate audit_log`,
    ]) {
      const refused = await storage.query((db) => db.execute(statement)).catch((error: unknown) => error);
      assert.ok(refused instanceof Error);
      assert.match(String(refused.cause), /audit_log is append-only/);
    }
    const rows = await storage.query((db) => db.select().from(auditLog));
    assert.deepEqual(
      rows.map(({ actor, action }) => [actor, action]),
      [['k', 'artifact.retire']],
    );
    await storage.close();
  });

  it('rolls a failed transaction back and answers the next query', async () => {
    const storage = await start();
    await assert.rejects(
      storage.transaction(async (db) => {
        await db.insert(settings).values({ name: 'half', value: 1 });
        throw new Error('changed my mind');
      }),
      /changed my mind/,
    );
    const rows = await storage.query((db) => db.select().from(settings).where(eq(settings.name, 'half')));
    assert.deepEqual(rows, []);
    await storage.close();
    await storage.close();
  });

  it('serves many callers at once', async () => {
    const storage = await start();
    const names = Array.from({ length: 100 }, (_, i) => `many-${i}`);
    await Promise.all(
      names.map((name) => storage.query((db) => db.insert(settings).values({ name, value: name }))),
    );
    const { rows } = await storage.query((db) =>
      db.execute<{ n: number }>(sql`select count(*)::int as n from settings where name like 'many-%'`),
    );
    assert.equal(rows[0]?.n, 100);
    await storage.close();
  });

  it('refuses a database that a newer version has written', async () => {
    const storage = await start();
    await storage.query((db) =>
      db.execute(
        sql`insert into drizzle.__drizzle_migrations (hash, created_at) values ('later', 9999999999999)`,
      ),
    );
    await storage.close();
    const again = await start();
    await assert.rejects(again.ready, /written by a newer version/);
    await again.close();
  });
}

describe('storage, embedded', function () {
  this.timeout(60_000);
  let dataDir: string;
  before(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'spotlight-pglite-'));
  });
  after(() => {
    rmSync(dataDir, { recursive: true });
  });
  const start = (dir = dataDir): Promise<Storage> =>
    Storage.start({ data: dir, databaseUrl: undefined, databasePool: 1 }, log);

  it('lets one process have the folder', async () => {
    const storage = await start();
    await assert.rejects(start(), /in use by process/);
    await storage.close();
    assert.ok(!readdirSync(dataDir).includes('lock'));
  });

  it('finds a way when the folder has too long a name for a socket', async () => {
    const long = join(dataDir, 'x'.repeat(100));
    const storage = await start(long);
    await storage.ready;
    await storage.close();
  });

  sharedCases(start);
});

describe('storage, Postgres', function () {
  this.timeout(60_000);
  let postgres: TemporaryPostgres;

  before(async function () {
    const started = await TemporaryPostgres.start();
    if (typeof started === 'string') {
      process.stderr.write(`SKIPPED: ${started}, so the storage cases did not run on Postgres\n`);
      this.skip();
    }
    postgres = started;
  });

  after(async () => {
    await (postgres as TemporaryPostgres | undefined)?.remove();
  });

  let database = '';
  const start = (name: string): Promise<Storage> =>
    Storage.start({ data: '/nonexistent', databaseUrl: postgres.url(name), databasePool: 4 }, log);

  beforeEach(async () => {
    database = await postgres.create();
  });

  sharedCases(() => start(database));

  it('lets replicas that start together migrate in turn', async () => {
    const replicas = await Promise.all(Array.from({ length: 4 }, () => start(database)));
    await Promise.all(replicas.map((replica) => replica.ready));
    await Promise.all(replicas.map((replica) => replica.close()));
  });

  it('says which database is missing', async () => {
    const storage = await start('nowhere');
    await assert.rejects(storage.ready, /has no such database; create it/);
    await storage.close();
  });
});
