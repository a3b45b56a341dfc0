import assert from 'node:assert/strict';
import { CliError } from './cli-error.js';
import { parseGate, parseWaves, planOf } from './rollout.js';

describe('rollout flags', () => {
  it('become the plan, and leave out what is not given', () => {
    assert.deepEqual(planOf({}), {});
    const gate = parseGate('iou=off', parseGate('kept-mass=0.05'));
    assert.deepEqual(planOf({ share: 0.2, waves: parseWaves('0.5,1'), hold: 1.5, minRequests: 3, gate }), {
      share: 0.2,
      waves: [0.5, 1],
      holdMs: 1500,
      gates: { keptMassDrop: 0.05, iouDrop: null, minRequests: 3 },
    });
  });

  it('are refused by name', () => {
    for (const text of ['', 'a,1', '0,1', '2']) assert.throws(() => parseWaves(text), CliError, text);
    for (const text of ['', 'kept-mass', 'speed=1', 'iou=much'])
      assert.throws(() => parseGate(text), CliError, text);
  });
});
