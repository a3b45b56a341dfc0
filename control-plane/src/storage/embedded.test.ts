import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Client } from 'pg';
import { pino } from 'pino';
import type { StartThread } from './embedded.js';
import { EmbeddedDatabase } from './embedded.js';

const log = pino({ level: 'silent' });

describe('EmbeddedDatabase', function () {
  this.timeout(30_000);
  let dataDir: string;
  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'spotlight-embedded-'));
  });
  afterEach(() => {
    rmSync(dataDir, { recursive: true });
  });

  async function ask(database: EmbeddedDatabase, sql: string): Promise<unknown[]> {
    const client = new Client({ host: database.socketDir, user: 'postgres', database: 'postgres' });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<Record<string, unknown>>(sql);
    await client.end();
    return rows;
  }

  it('opens again by itself after its thread has died, with every acknowledged row', async () => {
    const threads: Worker[] = [];
    const startThread: StartThread = (workerData) => {
      const thread = new Worker(new URL('./pglite-thread.js', import.meta.url), { workerData });
      threads.push(thread);
      return thread;
    };
    const database = await EmbeddedDatabase.claim(dataDir, log, startThread);
    await database.open();
    await ask(database, 'create table t (i int)');
    await ask(database, 'insert into t values (7)');
    await threads[0]!.terminate();

    let rows: unknown[] = [];
    const deadline = Date.now() + 15_000;
    while (rows.length === 0 && Date.now() < deadline) {
      rows = await ask(database, 'select i from t').catch(() => []);
      await sleep(50);
    }
    assert.deepEqual(rows, [{ i: 7 }]);
    assert.equal(threads.length, 2);
    await database.close();
  });

  it('says so when the thread cannot open the folder, and frees the lock at close', async () => {
    const startThread: StartThread = () => new Worker('throw new Error("no such engine")', { eval: true });
    const database = await EmbeddedDatabase.claim(dataDir, log, startThread);
    await assert.rejects(database.open(), /pglite did not open \(no such engine\): it is damaged/);
    await database.close();
    await (await EmbeddedDatabase.claim(dataDir, log)).close();
  });

  it('says so when the folder is damaged', async () => {
    const first = await EmbeddedDatabase.claim(dataDir, log);
    await first.open();
    await first.close();
    writeFileSync(join(dataDir, 'pglite/global/pg_control'), 'garbage');
    const second = await EmbeddedDatabase.claim(dataDir, log);
    await assert.rejects(second.open(), /did not open .*Restore a copy of it, or move it away/);
    await second.close();
  });
});
