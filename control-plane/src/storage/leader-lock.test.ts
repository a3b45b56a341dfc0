// Leadership over real sessions of Postgres: one at a time, passed on when its holder lets go or its connection dies.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import { pino } from 'pino';
import { LeaderLock } from './leader-lock.js';
import { Storage } from './storage.js';
import { TemporaryPostgres } from './temporary-postgres.fixture.js';

const log = pino({ level: 'silent' });

describe('LeaderLock', function () {
  this.timeout(60_000);

  it('is held by the one process of an embedded database', async () => {
    const lock = new LeaderLock({ session: () => Promise.resolve(undefined) }, 1n, log);
    assert.equal(await lock.held(), true);
    await lock.release();
    assert.equal(await lock.held(), false);
  });

  describe('on Postgres', () => {
    let postgres: TemporaryPostgres;
    let storages: Storage[];
    let locks: LeaderLock[];

    before(async function () {
      const started = await TemporaryPostgres.start();
      if (typeof started === 'string') {
        process.stderr.write(`SKIPPED: ${started}, so leadership was not tried on Postgres\n`);
        this.skip();
      }
      postgres = started;
    });
    after(async () => {
      await (postgres as TemporaryPostgres | undefined)?.remove();
    });
    beforeEach(async () => {
      const databaseUrl = postgres.url(await postgres.create());
      const start = (): Promise<Storage> =>
        Storage.start({ data: '/nonexistent', databaseUrl, databasePool: 1 }, log);
      storages = await Promise.all([start(), start()]);
      locks = storages.map((storage) => new LeaderLock(storage, 7n, log));
    });
    afterEach(async () => {
      await Promise.all(locks.map((lock) => lock.release()));
      await Promise.all(storages.map((storage) => storage.close()));
    });

    const held = (): Promise<boolean[]> => Promise.all(locks.map((lock) => lock.held()));

    it('is held by one replica, again and again, with a pool of one', async () => {
      const first = await held();
      assert.equal(first.filter(Boolean).length, 1);
      assert.deepEqual(await held(), first);
    });

    it('goes to the other when its holder lets go', async () => {
      assert.equal(await locks[0]!.held(), true);
      assert.equal(await locks[1]!.held(), false);
      await locks[0]!.release();
      assert.equal(await locks[1]!.held(), true);
    });

    it('goes to the other when the connection of its holder dies, and its holder knows', async () => {
      assert.equal(await locks[0]!.held(), true);
      const pool = new Pool({ connectionString: postgres.url('postgres') });
      pool.on('connect', (client) => {
        client.on('error', () => undefined);
      });
      await pool.query(
        `select pg_terminate_backend(l.pid) from pg_locks l where l.locktype = 'advisory' and l.granted`,
      );
      await pool.end();
      // Both sessions may have been told to end: the first try of each may only find that out.
      const tried = (lock: LeaderLock): Promise<boolean> => lock.held().catch(() => false);
      for (let i = 0; i < 100 && !(await tried(locks[1]!)); i++) await sleep(20);
      assert.equal(await locks[1]!.held(), true);
      for (let i = 0; i < 3; i++) assert.equal(await tried(locks[0]!), false);
    });
  });
});
