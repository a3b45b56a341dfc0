// Deployments against a real database, opened once for the file: how they are made, and how their active artifact changes.
import assert from 'node:assert/strict';
import { ArtifactSlot, ErrorCode, ModelDescription } from '@spotlight/proto';
import { eq } from 'drizzle-orm';
import { pino } from 'pino';
import { artifactRow } from '../artifacts/artifact-row.fixture.js';
import { lockArtifact, moveArtifact } from '../artifacts/artifact-rows.js';
import { AuditLog } from '../audit/audit-log.js';
import { worker } from '../routing/snapshot.fixture.js';
import { artifacts } from '../storage/schema.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import type { WorkerSnapshot } from '../workers/api.js';
import type { Activation } from './deployment-rows.js';
import { activate, pin } from './deployment-rows.js';
import { DeploymentsService } from './deployments.service.js';
import { DeploymentJoin } from './join.js';

describe('deployments', function () {
  this.timeout(30_000);
  let database: TemporaryStorage;
  let snapshots: WorkerSnapshot[] = [];
  let changed: () => void = () => undefined;
  const fleet = {
    snapshots: () => snapshots,
    onChange: (listener: () => void) => {
      changed = listener;
      return () => undefined;
    },
  };
  let service: DeploymentsService;
  let join: DeploymentJoin;
  let audit: AuditLog;
  let round = 0;

  before(async () => {
    database = await temporaryStorage();
    service = new DeploymentsService(database.storage, fleet);
    audit = new AuditLog(database.storage);
  });
  beforeEach(() => {
    round++;
    snapshots = [];
    join = new DeploymentJoin(database.storage, fleet, pino({ level: 'silent' }));
    join.onModuleInit();
  });
  afterEach(() => join.onModuleDestroy());
  after(() => database.remove());

  /** Every test has a model of its own, so that they do not meet. */
  const name = (): string => `model-${round}`;
  const digestOf = (letter: string): string => letter.repeat(60) + String(round).padStart(4, '0');
  function joining(id: string, letter = '', settingsDigest = 's1'): WorkerSnapshot {
    const model = ModelDescription.fromPartial({
      id: name(),
      fingerprint: 'f1',
      layers: 30,
      headDim: 64,
      queryHeads: 9,
      kvHeads: 3,
      settingsDigest,
      settings: '{"backend":"spotlight"}',
    });
    const artifactDigest = letter === '' ? '' : digestOf(letter);
    const slot = ArtifactSlot.fromPartial({
      active: true,
      artifactDigest,
      encoder: 'linear-asym',
      bits: 128,
    });
    return worker(id, {}, { model, slots: [slot] });
  }
  const stateOf = async (letter: string): Promise<string | undefined> => {
    const rows = await database.storage.query((db) =>
      db
        .select()
        .from(artifacts)
        .where(eq(artifacts.digest, digestOf(letter))),
    );
    return rows[0]?.state;
  };
  const insert = (letter: string, parts: Parameters<typeof artifactRow>[1] = {}): Promise<unknown> =>
    database.storage.query((db) => db.insert(artifacts).values(artifactRow(digestOf(letter), parts)));
  const take = (letter: string, parts: Partial<Activation> = {}): ReturnType<typeof activate> =>
    database.storage.transaction((db) =>
      activate(db, { deployment: name(), digest: digestOf(letter), actor: 'k', by: 'rollout', ...parts }),
    );

  it('is made by the first worker, with what it came with active and registered', async () => {
    snapshots = [joining('a', 'a')];
    changed();
    await join.look();
    const row = await service.get(name());
    assert.equal(row.activeArtifact, digestOf('a'));
    assert.equal(row.activatedBy, 'join');
    assert.deepEqual(row.settings, { backend: 'spotlight' });
    assert.equal(await stateOf('a'), 'active');
    const lines = await audit.list({ kind: 'deployment', object: name(), limit: 10 });
    assert.deepEqual(
      lines.map(({ action, actor }) => [action, actor]),
      [
        ['deployment.activate', 'worker:a'],
        ['deployment.create', 'worker:a'],
      ],
    );
    snapshots = [...snapshots, joining('b', 'a')];
    await join.look();
    assert.equal((await audit.list({ object: name(), limit: 10 })).length, 2);
    assert.equal(service.workersOf(row).length, 2);
  });

  it('serves densely without an artifact, and is another one under other settings', async () => {
    snapshots = [joining('a'), joining('b', '', 's2')];
    await join.look();
    assert.equal((await service.get(name())).activeArtifact, null);
    assert.equal((await service.get(`${name()}-s2`)).settingsDigest, 's2');
  });

  it('is made once by replicas that see the worker together', async () => {
    const rows = await Promise.all([join.settle(joining('a', 'a')), join.settle(joining('a', 'a'))]);
    assert.equal(rows[0].id, rows[1].id);
  });

  it('follows the command line of its workers while nobody has chosen, and only when the old one is gone', async () => {
    snapshots = [joining('a', 'a')];
    await join.look();
    snapshots = [joining('a', 'a'), joining('b', 'b')];
    await join.look();
    assert.equal((await service.get(name())).activeArtifact, digestOf('a'));
    snapshots = [];
    await join.look();
    snapshots = [joining('b', 'b')];
    await join.look();
    assert.equal((await service.get(name())).activeArtifact, digestOf('b'));
    assert.deepEqual([await stateOf('a'), await stateOf('b')], ['validated', 'active']);

    const pinned = await database.storage.transaction((db) => pin(db, name(), 'k'));
    assert.equal(pinned.activatedBy, 'operator');
    snapshots = [joining('c', 'c')];
    await join.look();
    assert.equal((await service.get(name())).activeArtifact, digestOf('b'));
  });

  it('does not follow a worker that comes with a retired artifact', async () => {
    await insert('r', { state: 'retired' });
    snapshots = [joining('a', 'r')];
    await join.look();
    assert.equal((await service.get(name())).activeArtifact, null);
    assert.equal(await stateOf('r'), 'retired');
  });

  it('takes nothing unfit from a worker into its rows', async () => {
    const odd = joining('a', 'x');
    const nul = { ...odd, model: { ...odd.model, settings: '{"note":["a\\u0000b"]}' } };
    const slots = [ArtifactSlot.fromPartial({ ...odd.slots[0], artifactDigest: 'not a digest' })];
    const row = await join.settle({ ...nul, slots });
    assert.deepEqual([row.settings, row.activeArtifact], [null, null]);
    const newer = [ArtifactSlot.fromPartial({ ...odd.slots[0], encoder: 'of-tomorrow' })];
    assert.equal((await join.settle({ ...odd, slots: newer })).activeArtifact, null);
  });

  it('makes up for a database that was away', async () => {
    let away = true;
    const flaky = {
      transaction: ((work) =>
        away
          ? Promise.reject(new Error('away'))
          : database.storage.transaction(work)) as typeof database.storage.transaction,
    };
    const late = new DeploymentJoin(flaky, fleet, pino({ level: 'silent' }));
    snapshots = [joining('a', 'a')];
    await late.look();
    await assert.rejects(service.get(name()), { code: ErrorCode.NOT_FOUND });
    away = false;
    await late.look();
    assert.equal((await service.get(name())).activeArtifact, digestOf('a'));
    await late.onModuleDestroy();
  });

  it('changes its artifact with both states, the generation and the audit line, or not at all', async () => {
    await join.settle(joining('a', 'a'));
    await insert('b');
    const before = await service.get(name());
    const after = await take('b', { reason: 'rollout done' });
    assert.equal(after.activeArtifact, digestOf('b'));
    assert.ok(after.generation > before.generation);
    assert.deepEqual([await stateOf('a'), await stateOf('b')], ['validated', 'active']);
    const [line] = await audit.list({ kind: 'deployment', object: name(), limit: 1 });
    assert.deepEqual(
      [line?.before?.['activeArtifact'], line?.after?.['activeArtifact'], line?.reason],
      [digestOf('a'), digestOf('b'), 'rollout done'],
    );

    await assert.rejects(
      database.storage.transaction(async (db) => {
        // The bytes of what a worker came with are not here in this test until the next line says so.
        await assert.rejects(
          activate(db, { deployment: name(), digest: digestOf('a'), actor: 'k', by: 'rollout' }),
          { openaiCode: 'artifact_without_bytes' },
        );
        await db
          .update(artifacts)
          .set({ blob: 'x' })
          .where(eq(artifacts.digest, digestOf('a')));
        await activate(db, { deployment: name(), digest: digestOf('a'), actor: 'k', by: 'rollout' });
        throw new Error('killed before the commit');
      }),
      /killed/,
    );
    assert.equal((await service.get(name())).activeArtifact, digestOf('b'));
    assert.deepEqual([await stateOf('a'), await stateOf('b')], ['validated', 'active']);
  });

  it('keeps an artifact active while another deployment answers with it', async () => {
    await join.settle(joining('a', 'a'));
    await join.settle(joining('b', 'a', 's2'));
    await insert('b');
    await take('b');
    assert.equal(await stateOf('a'), 'active');
    await take('b', { deployment: `${name()}-s2` });
    assert.equal(await stateOf('a'), 'validated');
  });

  it('refuses by name what must not become active', async () => {
    await join.settle(joining('a', 'a'));
    const cases: [string, Parameters<typeof artifactRow>[1], string][] = [
      ['b', { state: 'retired' }, 'artifact_retired'],
      ['c', { state: 'draft' }, 'artifact_draft'],
      ['d', { state: 'rejected' }, 'artifact_rejected'],
      ['e', { fingerprint: 'f2' }, 'artifact_mismatch'],
      ['f', { blob: null }, 'artifact_without_bytes'],
    ];
    for (const [letter, parts, openaiCode] of cases) {
      await insert(letter, parts);
      await assert.rejects(take(letter), { code: ErrorCode.FAILED_PRECONDITION, openaiCode }, openaiCode);
    }
    await assert.rejects(take('0'), { code: ErrorCode.NOT_FOUND, openaiCode: 'artifact_not_found' });
    await assert.rejects(take('a', { deployment: 'none' }), { openaiCode: 'deployment_not_found' });
    assert.equal((await service.get(name())).activeArtifact, digestOf('a'));
  });

  it('lets nobody retire what it answers with', async () => {
    await join.settle(joining('a', 'a'));
    await assert.rejects(
      database.storage.transaction(async (db) =>
        moveArtifact(db, await lockArtifact(db, digestOf('a')), {
          event: 'retire',
          actor: 'k',
          wanted: 'retired',
        }),
      ),
      { openaiCode: 'artifact_active' },
    );
  });

  it('has its description and its bar changed, with a line of who did', async () => {
    await join.settle(joining('a'));
    const row = await service.change(name(), { description: 'chat', leastQuality: 0.5 }, 'key-1');
    assert.deepEqual([row.description, row.leastQuality], ['chat', 0.5]);
    const [line] = await audit.list({ actor: 'key-1', object: name(), limit: 1 });
    assert.deepEqual(line?.after, { description: 'chat', leastQuality: 0.5 });
    assert.equal(line.before?.['description'], '');
    await assert.rejects(service.change('none', {}, 'k'), { code: ErrorCode.NOT_FOUND });
  });
});
