import assert from 'node:assert/strict';
import { ArtifactSlot } from '@spotlight/proto';
import { worker } from '../routing/snapshot.fixture.js';
import type { WorkerRow } from '../workers/registry.js';
import { workerView } from './worker-view.js';

const row: WorkerRow = {
  id: 'w',
  address: 'old:1',
  modelId: 'm',
  modelFingerprint: 'f',
  device: 'cpu',
  version: '1',
  state: 'ready',
  firstSeen: new Date(1),
  lastSeen: new Date(2),
  drain: true,
  slots: [],
  generation: 9n,
};

describe('workerView', () => {
  it('calls a worker lost that is not here, whatever its row says last', () => {
    const view = workerView(row, undefined, undefined);
    assert.equal(view.state, 'lost');
    assert.equal(view.live, null);
    assert.equal(view.lastSeen, row.lastSeen);
    assert.deepEqual(view.generation, { inForce: null, desired: 9 });
  });

  it('puts what is live over the row, and is JSON with its 64-bit fields', () => {
    const slots = [
      ArtifactSlot.fromPartial({ slot: 1, artifactDigest: 'd', active: true, epoch: 5n, rehashed: 1 }),
    ];
    const live = worker('w', { running: 3 }, { slots, state: 'draining', inFlight: 2 });
    const view = workerView(row, live, { message: 'finishing', generation: 8n });
    assert.equal(view.state, 'draining');
    assert.equal(view.address, 'w:1');
    assert.deepEqual(view.generation, { inForce: 8, desired: 9 });
    assert.equal(view.live?.running, 3);
    assert.equal(view.live.deviceName, 'Some CPU');
    assert.deepEqual(view.live.slots, [{ slot: 1, artifactDigest: 'd', active: true, rehashed: 1 }]);
    assert.doesNotThrow(() => JSON.stringify(view));
  });
});
