import assert from 'node:assert/strict';
import { ArtifactSlot, ModelDescription } from '@spotlight/proto';
import type { ReplayNeeds, WorkerSnapshot } from '../../workers/api.js';
import { request, worker } from '../snapshot.fixture.js';
import { continues, hasRoom, holdsArtifact, isReady, notExcluded, servesModel } from './filters.js';

describe('filters', () => {
  it('model: keeps the model asked for', () => {
    const other = worker('w', {}, { model: ModelDescription.fromPartial({ id: 'M' }) });
    assert.ok(servesModel.keeps(worker('w'), request()));
    assert.ok(!servesModel.keeps(other, request()));
  });

  it('ready: keeps the one state that takes requests', () => {
    for (const state of ['starting', 'degraded', 'draining', 'dead'] as const) {
      assert.ok(!isReady.keeps(worker('w', {}, { state }), request()), state);
    }
    assert.ok(isReady.keeps(worker('w'), request()));
  });

  it('not-excluded: leaves out workers that have failed the request', () => {
    const exclude = new Set(['w']);
    assert.ok(!notExcluded.keeps(worker('w'), request({ exclude })));
    assert.ok(notExcluded.keeps(worker('v'), request({ exclude })));
  });

  it('artifact: leaves workers that hold the one a request is pinned to', () => {
    const slot = ArtifactSlot.fromPartial({ slot: 1, artifactDigest: 'd', active: false });
    const holder = worker('w', {}, { slots: [slot] });
    assert.ok(holdsArtifact.keeps(holder, request({ artifactDigest: 'd' })), 'standby will do');
    assert.ok(!holdsArtifact.keeps(worker('v'), request({ artifactDigest: 'd' })));
    assert.ok(holdsArtifact.keeps(worker('v'), request()));
  });

  it('continues: asks for the same model, the same settings and a recent step, where each is asked for', () => {
    const keeps = (replay: ReplayNeeds | undefined, change: Partial<WorkerSnapshot> = {}): boolean =>
      continues.keeps(worker('w', {}, { steppedAt: 50, ...change }), request({ replay }));
    assert.ok(keeps(undefined) && keeps({}));
    assert.ok(keeps({ fingerprint: 'f', settingsDigest: '', steppedSince: 50 }));
    assert.ok(!keeps({ fingerprint: 'g' }));
    assert.ok(!keeps({ settingsDigest: 's' }));
    assert.ok(!keeps({ steppedSince: 51 }));
  });

  it('has-room: counts what runs, what waits and what is on its way', () => {
    const keeps = (load: object, change: object = {}): boolean =>
      hasRoom.keeps(worker('w', load, change), request());
    assert.ok(keeps({}));
    assert.ok(keeps({ running: 8, waiting: 7 }));
    assert.ok(!keeps({ running: 8, waiting: 8 }));
    assert.ok(!keeps({ running: 2, waiting: 8 }), 'blocks are short: few run, yet none more may wait');
    assert.ok(keeps({ running: 8 }, { inFlight: 15 }));
    assert.ok(!keeps({ running: 8 }, { inFlight: 16 }), 'a burst since the last report');
    assert.ok(keeps({ running: 8, waiting: 2 }, { inFlight: 3 }), 'other replicas sent the rest');
    assert.ok(keeps({ running: 7 }, { maxWaiting: 0 }));
    assert.ok(!keeps({ running: 8 }, { maxWaiting: 0 }));
  });
});
