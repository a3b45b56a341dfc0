// Rollouts from their order to their end over a real database and workers that obey: the good one, the bad one, what operators order,
// what is refused, workers that come and go, messages that are lost, and two that both think they lead.
import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import { and, eq } from 'drizzle-orm';
import { setTimeout as sleep } from 'node:timers/promises';
import { artifactRow } from '../artifacts/artifact-row.fixture.js';
import { artifacts, auditLog } from '../storage/schema.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import { hasEnded, PLAN } from './rollout.js';
import type { RolloutRow } from './rollout-rows.js';
import { eventsOf } from './rollout-rows.js';
import type { Replica } from './world.fixture.js';
import { World } from './world.fixture.js';

describe('rollouts', function () {
  this.timeout(60_000);
  let database: TemporaryStorage;
  let world: World;
  let replica: Replica;

  before(async () => {
    database = await temporaryStorage();
  });
  after(async () => {
    await database.remove();
  });
  beforeEach(async () => {
    world = await World.make(database.storage, 3);
    replica = world.replica();
    await replica.beat();
  });
  afterEach(async () => {
    await world.bury();
  });

  /** Beats and steps until it holds. */
  async function until(id: string, holds: (row: RolloutRow) => boolean, beats = 300): Promise<RolloutRow> {
    for (let i = 0; i < beats; i++) {
      await replica.beat();
      const row = await world.row(id);
      if (holds(row)) return row;
      world.step(replica);
    }
    const detail = await replica.views.detail(id);
    throw new Error(`rollout stands at ${detail.phase} after ${beats} beats: ${detail.waits}`);
  }
  const ended = (row: RolloutRow): boolean => hasEnded(row.phase);
  const kinds = async (id: string): Promise<string[]> =>
    (await database.storage.query((db) => eventsOf(db, [id]))).map(({ kind }) => kind);
  const audited = async (id: string): Promise<string[]> =>
    (
      await database.storage.query((db) =>
        db
          .select()
          .from(auditLog)
          .where(and(eq(auditLog.kind, 'rollout'), eq(auditLog.object, id)))
          .orderBy(auditLog.id),
      )
    ).map(({ action }) => action.replace('rollout.', ''));

  /** Some beats more, for what follows an end. */
  async function settle(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      await replica.beat();
      world.step(replica);
    }
  }

  it('goes staged, canary, waves, done; every move in the log; its workers hold the new one alone', async () => {
    const id = await world.start(replica);
    await until(id, ({ phase }) => phase === 'canary');
    assert.ok(world.workers.every((worker) => worker.active === world.stable));
    await until(id, ({ phase, wave, heldSince }) => phase === 'waves' && wave === 0 && heldSince !== null);
    assert.equal(world.workers.filter((worker) => worker.active === world.candidate).length, 2);
    const row = await until(id, ended);
    assert.equal(row.phase, 'done', row.reason);
    assert.equal(await world.active(), world.candidate);
    await settle();
    for (const worker of world.workers) assert.deepEqual(worker.names, [world.candidate]);
    const moves = ['start', 'canary', 'hold', 'wave', 'hold', 'wave', 'hold', 'done'];
    assert.deepEqual(await kinds(id), moves);
    assert.deepEqual(await audited(id), moves);
    const detail = await replica.views.detail(id);
    assert.equal(detail.events.at(-1)?.readings.find(({ gate }) => gate === 'kept_mass')?.verdict, 'holds');
  });

  it('gives the canary its share and no more', async () => {
    const id = await world.start(replica, { share: 0.25, holdMs: 3_600_000 });
    await until(id, ({ phase }) => phase === 'canary');
    for (const worker of world.workers) worker.history.length = 0;
    await replica.beat();
    for (let i = 0; i < 40; i++) world.step(replica);
    const all = world.workers.flatMap(({ history }) => history);
    const part = all.filter((digest) => digest === world.candidate).length / all.length;
    assert.ok(Math.abs(part - 0.25) < 0.06, String(part));
  });

  it('rolls a bad checkpoint back by its gate, with the reason, and nobody meets it again', async () => {
    world.quality.set(world.candidate, { kept: 0.4, failing: 0 });
    const id = await world.start(replica);
    const row = await until(id, ended);
    assert.equal(row.phase, 'rolled_back');
    assert.match(row.reason, /kept mass 0\.400, at least 0\.[78]/);
    assert.deepEqual(await kinds(id), ['start', 'canary', 'hold', 'roll_back', 'rolled_back']);
    assert.equal(await world.active(), world.stable);
    await settle();
    for (const worker of world.workers) {
      assert.deepEqual(worker.names, [world.stable]);
      worker.history.length = 0;
    }
    world.step(replica, 100);
    assert.ok(world.workers.every(({ history }) => history.every((digest) => digest === world.stable)));
  });

  it('takes back what only shows in the waves, from workers already flipped', async () => {
    const id = await world.start(replica);
    await until(id, ({ phase, heldSince }) => phase === 'waves' && heldSince !== null);
    world.quality.set(world.candidate, { kept: 0.9, failing: 0.5 });
    const row = await until(id, ended);
    assert.equal(row.phase, 'rolled_back');
    assert.match(row.reason, /requests failed/);
    assert.ok(world.workers.every((worker) => worker.active === world.stable));
  });

  it('does as it is ordered: pause, resume, abort, promote', async () => {
    const first = await world.start(replica, { holdMs: 3_600_000 });
    await until(first, ({ heldSince }) => heldSince !== null);
    await replica.service.order(first, 'pause', 'tester', 'lunch');
    await replica.service.order(first, 'pause', 'tester', '');
    await settle();
    assert.equal((await replica.views.detail(first)).state, 'paused');
    assert.equal((await replica.views.detail(first)).waits, 'paused');
    await replica.service.order(first, 'resume', 'tester', '');
    await replica.service.order(first, 'abort', 'tester', '');
    await replica.service.order(first, 'abort', 'tester', '');
    const row = await until(first, ended);
    assert.deepEqual([row.phase, row.reason], ['aborted', 'aborted by its operator']);
    assert.deepEqual(await audited(first), [
      'start',
      'canary',
      'hold',
      'pause',
      'resume',
      'abort',
      'aborted',
    ]);
    for (const order of ['pause', 'promote', 'abort'] as const) {
      await assert.rejects(replica.service.order(first, order, 'tester', ''), {
        code: ErrorCode.FAILED_PRECONDITION,
        openaiCode: 'rollout_ended',
      });
    }
    await assert.rejects(replica.service.order('ro-none', 'pause', 't', ''), { code: ErrorCode.NOT_FOUND });

    const second = await world.start(replica, { holdMs: 3_600_000 });
    await replica.service.order(second, 'promote', 'tester', '');
    assert.equal((await until(second, ended)).phase, 'done');
  });

  it('refuses what may not be rolled out, by name, and writes nothing', async () => {
    const insert = async (n: number, parts: Parameters<typeof artifactRow>[1]): Promise<string> => {
      const digest = `${n}f`.repeat(32);
      await database.storage.query((db) =>
        db.insert(artifacts).values(artifactRow(digest, parts)).onConflictDoNothing(),
      );
      return digest;
    };
    const start = (artifact: string, force = false): Promise<string> =>
      replica.service.start({
        deployment: world.modelId,
        artifact,
        plan: PLAN.parse({}),
        force,
        actor: 'tester',
        reason: '',
      });
    const cases: [Parameters<typeof artifactRow>[1], string][] = [
      [{ state: 'retired' }, 'artifact_retired'],
      [{ state: 'draft' }, 'artifact_draft'],
      [{ state: 'rejected' }, 'artifact_rejected'],
      [{ fingerprint: 'f2' }, 'artifact_mismatch'],
      [{ blob: null }, 'artifact_without_bytes'],
      [{ encoder: 'mlp' }, 'artifact_needs_workers'],
      [{ bits: 256 }, 'artifact_needs_workers'],
      [{ layers: [1] }, 'artifact_needs_workers'],
    ];
    for (const [i, [parts, openaiCode]] of cases.entries()) {
      const digest = await insert(i, parts);
      await assert.rejects(start(digest), { code: ErrorCode.FAILED_PRECONDITION, openaiCode }, openaiCode);
      if (openaiCode === 'artifact_retired') await assert.rejects(start(digest, true), { openaiCode });
    }
    await assert.rejects(start(world.stable), { openaiCode: 'artifact_active' });
    await assert.rejects(start('e'.repeat(64)), { code: ErrorCode.NOT_FOUND });
    assert.deepEqual(await replica.views.list(world.modelId, 10), []);
  });

  it('takes a draft when it is forced, and says so in the log', async () => {
    await database.storage.query((db) =>
      db.update(artifacts).set({ state: 'draft' }).where(eq(artifacts.digest, world.candidate)),
    );
    const id = await replica.service.start({
      deployment: world.modelId,
      artifact: world.candidate,
      plan: PLAN.parse({}),
      force: true,
      actor: 'tester',
      reason: '',
    });
    const lines = await database.storage.query((db) =>
      db.select().from(auditLog).where(eq(auditLog.object, world.candidate)),
    );
    assert.match(lines.at(-1)?.reason ?? '', /forced past its validation/);
    await replica.service.order(id, 'abort', 'tester', '');
  });

  it('lets one rollout of a deployment run at a time', async () => {
    const orders = await Promise.allSettled([world.start(replica), world.start(world.replica())]);
    assert.deepEqual(orders.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    const refused = orders.find((order) => order.status === 'rejected');
    assert.equal((refused?.reason as { code: ErrorCode }).code, ErrorCode.CONFLICT);
    assert.equal((await replica.views.list(world.modelId, 10)).length, 1);
  });

  it('does not promote what was retired meanwhile, by order or by itself', async () => {
    const id = await world.start(replica);
    await until(id, ({ phase }) => phase === 'waves');
    await database.storage.query((db) =>
      db.update(artifacts).set({ state: 'retired' }).where(eq(artifacts.digest, world.candidate)),
    );
    await assert.rejects(replica.service.order(id, 'promote', 'tester', ''), {
      openaiCode: 'artifact_retired',
    });
    const row = await until(id, ended);
    assert.equal(row.phase, 'failed');
    assert.match(row.reason, /is retired/);
    assert.equal(await world.active(), world.stable);
  });

  it('fails when a worker cannot hold it, in its words', async () => {
    world.workers[1]!.refuses = world.candidate;
    const id = await world.start(replica, { timeoutMs: 1000 });
    await until(id, () => world.workers.filter((worker) => worker.holds(world.candidate)).length === 2);
    await sleep(1000);
    const row = await until(id, ended);
    assert.equal(row.phase, 'failed');
    assert.match(row.reason, /2 of 3 workers hold it/);
  });

  it('stages and flips workers that come late, and waits for one that starts again', async () => {
    const late = world.workers[2]!;
    late.away = true;
    const id = await world.start(replica);
    await until(id, ({ phase, wave }) => phase === 'waves' && wave === 1);
    late.away = false;
    await replica.greet(late.id);
    world.workers[0]!.restart();
    await replica.greet(world.workers[0]!.id);
    assert.equal((await until(id, ended)).phase, 'done');
    await settle();
    for (const worker of world.workers) assert.equal(worker.active, world.candidate);
  });

  it('does not let a worker that was away come back with what was taken back', async () => {
    const id = await world.start(replica);
    await until(id, ({ phase, heldSince }) => phase === 'waves' && heldSince !== null);
    const away = world.workers.find((worker) => worker.active === world.candidate)!;
    away.away = true;
    await replica.service.order(id, 'abort', 'tester', '');
    await until(id, ended);
    away.away = false;
    await replica.greet(away.id);
    assert.equal(away.active, world.stable, 'from its first directive on');
  });

  it('ends the same with two of three messages lost', async () => {
    world.lossy = 0.66;
    const id = await world.start(replica);
    assert.equal((await until(id, ended, 2000)).phase, 'done');
    world.lossy = 0;
    for (let i = 0; i < 10; i++) {
      await sleep(5);
      await settle();
    }
    for (const worker of world.workers) assert.deepEqual(worker.names, [world.candidate]);
  });

  it('moves once when two think that they lead', async () => {
    const other = world.replica();
    const id = await world.start(replica);
    for (let i = 0; i < 300 && !ended(await world.row(id)); i++) {
      await Promise.all([replica.beat(), other.beat()]);
      world.step(i % 2 === 0 ? replica : other);
    }
    assert.equal((await world.row(id)).phase, 'done');
    const moves = ['start', 'canary', 'hold', 'wave', 'hold', 'wave', 'hold', 'done'];
    assert.deepEqual(await kinds(id), moves);
    assert.deepEqual(await audited(id), moves);
  });
});
