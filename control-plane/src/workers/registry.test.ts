// Rows of workers and models, and the desired state on them, against a real database opened once for the file.
import assert from 'node:assert/strict';
import type { Directive } from '@spotlight/proto';
import { ErrorCode, Load } from '@spotlight/proto';
import { pino } from 'pino';
import { eq } from 'drizzle-orm';
import { auditLog, workers } from '../storage/schema.js';
import type { Storage } from '../storage/storage.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import type { WorkerSnapshot } from './api.js';
import { DesiredState } from './desired-state.js';
import type { Fleet } from './fleet.js';
import { Registry } from './registry.js';
import { helloOf } from './scripted-worker.fixture.js';

const log = pino({ level: 'silent' });

function snapshot(workerId: string, change: Partial<WorkerSnapshot> = {}): WorkerSnapshot {
  const model = helloOf(workerId, 'h:1').description?.model;
  assert.ok(model);
  return {
    workerId,
    incarnation: workerId,
    address: 'h:1',
    metricsAddress: '',
    model,
    slots: [],
    state: 'ready',
    load: Load.fromPartial({}),
    inFlight: 0,
    maxRequests: 8,
    maxWaiting: 8,
    blockSize: 64,
    device: 'cpu',
    deviceName: 'Some CPU',
    lastStepAgeMs: 0,
    steppedAt: 0,
    ...change,
  };
}

describe('Registry', function () {
  this.timeout(30_000);
  let database: TemporaryStorage;
  let registry: Registry;
  before(async () => {
    database = await temporaryStorage();
    registry = new Registry(database.storage, log);
  });
  after(async () => {
    await database.remove();
  });

  it('remembers workers and models, first and last', async () => {
    registry.seen(snapshot('w1'), '1.0', 'ready');
    assert.ok(registry.model('m'), 'known before any row is written');
    await registry.flush();
    const [first] = await registry.workers();
    registry.seen(snapshot('w1', { address: 'h:2' }), '1.1', 'lost');
    registry.seen(snapshot('w2'), '1.0', 'ready');
    const rows = new Map((await registry.workers()).map((row) => [row.id, row]));
    assert.equal(rows.size, 2);
    const again = rows.get('w1');
    assert.ok(first && again);
    assert.deepEqual(again.firstSeen, first.firstSeen);
    assert.ok(again.lastSeen >= first.lastSeen);
    assert.deepEqual([again.address, again.version, again.state], ['h:2', '1.1', 'lost']);
    const [model] = await registry.models();
    assert.equal(model?.dims.maxModelLen, 8192);
    assert.equal((await registry.models()).length, 1);
  });

  it('knows after a restart which models were here', async () => {
    const restarted = new Registry(database.storage, log);
    await restarted.loaded;
    assert.ok(restarted.model('m'));
    assert.equal(restarted.model('never'), undefined);
  });

  it('forgets at its start who has not been seen for a week, unless drained', async () => {
    const row = (id: string, ageDays: number, drain: boolean): typeof workers.$inferInsert => ({
      id,
      drain,
      address: 'h:1',
      modelId: 'm',
      modelFingerprint: 'f',
      device: 'cpu',
      version: '1',
      state: 'lost',
      lastSeen: new Date(Date.now() - ageDays * 86_400_000),
    });
    await database.storage.query((db) =>
      db.insert(workers).values([row('old', 8, false), row('drained', 8, true), row('recent', 6, false)]),
    );
    await new Registry(database.storage, log).loaded;
    const ids = (await registry.workers()).map(({ id }) => id);
    assert.ok(!ids.includes('old'));
    assert.ok(ids.includes('drained') && ids.includes('recent'));
  });

  it('writes many news of one worker as one row, in one transaction', async () => {
    let transactions = 0;
    const counting: Pick<Storage, 'query' | 'transaction'> = {
      query: (work) => database.storage.query(work),
      transaction: (work) => {
        transactions++;
        return database.storage.transaction(work);
      },
    };
    const busy = new Registry(counting, log);
    for (let i = 0; i < 1000; i++) busy.seen(snapshot('w3'), '1.0', i % 2 ? 'ready' : 'degraded');
    await Promise.all([busy.flush(), busy.flush()]);
    assert.equal(transactions, 1);
  });

  it('keeps news while the database is away, the newest of each worker', async () => {
    let away = true;
    const flaky: Pick<Storage, 'query' | 'transaction'> = {
      query: (work) => database.storage.query(work),
      transaction: (work) => (away ? Promise.reject(new Error('away')) : database.storage.transaction(work)),
    };
    const patient = new Registry(flaky, log);
    patient.seen(snapshot('w4', { address: 'old:1' }), '1.0', 'ready');
    patient.seen(snapshot('w5'), '1.0', 'ready');
    const failing = patient.flush();
    patient.seen(snapshot('w4', { address: 'new:1' }), '1.0', 'ready');
    await failing;
    away = false;
    const rows = new Map((await patient.workers()).map((row) => [row.id, row]));
    assert.equal(rows.get('w4')?.address, 'new:1');
    assert.ok(rows.has('w5'));
  });

  describe('DesiredState', () => {
    const sent: [string, Directive][] = [];
    const fleet = {
      direct: (id: string, directive: Directive) => sent.push([id, directive]),
    } as unknown as Fleet;
    const desired = (): DesiredState =>
      new DesiredState(database.storage, registry, fleet, { reportInterval: 1000 });

    it('greets a new worker with generation 0 and the report interval', async () => {
      await desired().greet('new');
      const [id, directive] = sent.pop() ?? [];
      assert.equal(id, 'new');
      assert.deepEqual(directive, { generation: 0n, drain: false, slots: [], reportIntervalMs: 1000 });
    });

    it('numbers every change higher, over restarts, and tells it again at the next join', async () => {
      registry.seen(snapshot('w6'), '1.0', 'ready');
      const generations: bigint[] = [];
      for (const drain of [true, false, true]) {
        await desired().setDrain('w6', drain, 'k');
        const directive = sent.pop()?.[1];
        assert.equal(directive?.drain, drain);
        generations.push(directive.generation);
      }
      assert.ok(
        generations[0]! > 0n && generations[1]! > generations[0]! && generations[2]! > generations[1]!,
      );
      await desired().greet('w6');
      assert.deepEqual(sent.pop()?.[1], {
        generation: generations[2],
        drain: true,
        slots: [],
        reportIntervalMs: 1000,
      });
    });

    it('has a line for every change, and who asked for it', async () => {
      const lines = await database.storage.query((db) =>
        db.select().from(auditLog).where(eq(auditLog.object, 'w6')).orderBy(auditLog.id),
      );
      assert.deepEqual(
        lines.map(({ actor, action, before, after }) => [actor, action, before, after]),
        [
          ['k', 'worker.drain', { drain: false }, { drain: true }],
          ['k', 'worker.drain', { drain: true }, { drain: false }],
          ['k', 'worker.drain', { drain: false }, { drain: true }],
        ],
      );
    });

    it('survives what the worker says of itself', async () => {
      registry.seen(snapshot('w6'), '1.0', 'ready');
      await registry.flush();
      const row = (await database.storage.query((db) => db.select().from(workers))).find(
        ({ id }) => id === 'w6',
      );
      assert.equal(row?.drain, true);
    });

    it('names a worker that never was', async () => {
      await assert.rejects(desired().setDrain('ghost', true, 'k'), {
        code: ErrorCode.NOT_FOUND,
        field: 'id',
      });
    });
  });
});
