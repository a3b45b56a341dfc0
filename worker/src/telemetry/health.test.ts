import assert from 'node:assert/strict';
import { WorkerState } from '@spotlight/proto';
import type { Vitals } from './health.js';
import { judge, WorkerStatus } from './health.js';

const engine: Vitals['engine'] = { dead: undefined, busy: false, lastStepAgeMs: 1e9 };
const vitals: Vitals = { started: true, draining: false, engine };

describe('judge', () => {
  it('holds an idle worker for ready, however old its last step is', () => {
    assert.deepEqual(judge(vitals, 1000), { state: WorkerState.READY, reason: '' });
  });

  it('judges by the age of the last step while one runs', () => {
    const at = (lastStepAgeMs: number): WorkerState =>
      judge({ ...vitals, engine: { ...engine, busy: true, lastStepAgeMs } }, 1000).state;
    assert.equal(at(1000), WorkerState.READY);
    assert.equal(at(1001), WorkerState.DEGRADED);
  });

  it('puts death before the start, the start before draining, draining before age', () => {
    const worst = { dead: 'illegal address', busy: true, lastStepAgeMs: 1e9 };
    assert.deepEqual(judge({ started: false, draining: true, engine: worst }, 1000), {
      state: WorkerState.DEAD,
      reason: 'illegal address',
    });
    const slow = { ...worst, dead: undefined };
    assert.equal(judge({ started: false, draining: true, engine: slow }, 1000).state, WorkerState.STARTING);
    assert.equal(judge({ started: true, draining: true, engine: slow }, 1000).state, WorkerState.DRAINING);
  });
});

describe('WorkerStatus', () => {
  it('tells of changes, and drains as long as one cause holds', () => {
    const status = new WorkerStatus(1000);
    const seen: WorkerState[] = [];
    const unsubscribe = status.onChange(({ state }) => seen.push(state));
    status.started();
    status.drain('directive', true);
    status.drain('shutdown', true);
    status.drain('directive', false);
    assert.ok(status.draining);
    status.drain('shutdown', false);
    unsubscribe();
    status.drain('shutdown', true);
    status.stop();
    assert.deepEqual(seen, [WorkerState.READY, WorkerState.DRAINING, WorkerState.READY]);
  });

  it('gives the age of the last step as 0 while idle', () => {
    const status = new WorkerStatus(1000);
    status.watch(() => engine);
    assert.equal(status.lastStepAgeMs, 0);
    status.watch(() => ({ ...engine, busy: true, lastStepAgeMs: 12.4 }));
    assert.equal(status.lastStepAgeMs, 12);
    status.stop();
  });
});
