import assert from 'node:assert/strict';
import { ArtifactSlot, ModelDescription } from '@spotlight/proto';
import { worker } from '../routing/snapshot.fixture.js';
import type { WorkerSnapshot } from '../workers/api.js';
import type { ModelRow, ModelSeen } from '../workers/registry.js';
import { ModelsService } from './models.service.js';

const model = (id: string, change: Partial<ModelDescription> = {}): ModelDescription =>
  ModelDescription.fromPartial({
    id,
    fingerprint: `f-${id}`,
    backend: 'spotlight',
    maxModelLen: 8192,
    ...change,
  });
const slot = (artifactDigest: string, active: boolean): ArtifactSlot =>
  ArtifactSlot.fromPartial({ artifactDigest, active });

describe('ModelsService', () => {
  let workers: WorkerSnapshot[] = [];
  const seen = new Map<string, ModelSeen>();
  let rows: ModelRow[] = [];
  const service = new ModelsService(
    { snapshots: () => workers },
    { model: (id) => seen.get(id), models: () => Promise.resolve(rows) },
  );

  it('lists each model once with its workers, backend and active artifact', () => {
    const slots = [slot('old', false), slot('new', true)];
    seen.set('b', { firstSeen: new Date(1_700_000_000_000), lastSeen: new Date() });
    workers = [
      worker('1', {}, { model: model('b'), slots }),
      worker('2', {}, { model: model('b'), slots, deviceName: 'Another CPU' }),
      worker('3', {}, { model: model('a', { backend: 'dense' }), state: 'draining' }),
      worker('4', {}, { model: model('gone'), state: 'dead' }),
    ];
    assert.deepEqual(service.served(), [
      { ...service.served()[0], id: 'a', backend: 'dense', artifactDigest: '', workers: 1 },
      {
        id: 'b',
        fingerprint: 'f-b',
        maxModelLen: 8192,
        backend: 'spotlight',
        artifactDigest: 'new',
        workers: 2,
        createdUnix: 1_700_000_000n,
        deviceNames: ['Another CPU', 'Some CPU'],
      },
    ]);
  });

  it('tells the most common description where workers differ, as during a roll-out', () => {
    workers = ['old', 'new', 'new'].map((digest, i) =>
      worker(String(i), {}, { model: model('m'), slots: [slot(digest, true)] }),
    );
    assert.equal(service.served()[0]?.artifactDigest, 'new');
    assert.equal(service.served()[0]?.workers, 3);
  });

  it('expects back what was here minutes ago, not what left long since', () => {
    seen.set('recent', { firstSeen: new Date(0), lastSeen: new Date(Date.now() - 60_000) });
    seen.set('past', { firstSeen: new Date(0), lastSeen: new Date(Date.now() - 3_600_000) });
    assert.ok(service.isExpected('recent'));
    assert.ok(!service.isExpected('past'));
    assert.ok(!service.isExpected('never'));
  });

  it('remembers models without workers', async () => {
    const dims = {
      architecture: 'llama',
      layers: 1,
      queryHeads: 1,
      kvHeads: 1,
      headDim: 64,
      vocabSize: 1,
      maxModelLen: 1,
    };
    const row = (id: string): ModelRow => ({
      id,
      fingerprint: `f-${id}`,
      dims,
      source: '',
      firstSeen: new Date(0),
      lastSeen: new Date(1),
    });
    rows = [row('m'), row('past'), { ...row('m'), fingerprint: 'another' }];
    workers = [worker('1', {}, { model: model('m'), slots: [slot('d', true)] })];
    const history = await service.history();
    assert.deepEqual(
      history.map((one) => [one.id, one.fingerprint, one.workers, one.backend, one.artifactDigest]),
      [
        ['m', 'f-m', 1, 'spotlight', 'd'],
        ['past', 'f-past', 0, null, null],
        ['m', 'another', 0, null, null],
      ],
    );
  });
});
