import assert from 'node:assert/strict';
import { calibrate } from './calibrate.js';
import type { Layers } from './calibrate.js';

const CHEAP = { mode: 'sparse', fraction: 0.01 } as const;
const DEAR = { mode: 'sparse-tail', fraction: 0.05 } as const;

/** What each layer loses by its way; losses add up. */
const search = (costs: readonly number[], bound: number) => {
  const asked: Layers[] = [];
  return {
    asked,
    ...{
      layers: costs.length,
      ways: [CHEAP, DEAR],
      order: costs.map((_, i) => i).sort((a, b) => costs[a]! - costs[b]!),
    },
    ...{ bound, say: () => undefined },
    loss: (layers: Layers) => {
      asked.push(layers);
      const each = layers.map(
        ({ mode }, i) => costs[i]! * (mode === 'dense' ? 0 : mode === 'sparse' ? 1 : 0.1),
      );
      return Promise.resolve(each.reduce((sum, one) => sum + one, 0));
    },
  };
};

describe('calibrate', () => {
  it('takes the cheapest way everywhere in one run when the bound allows', async () => {
    const found = await calibrate(search([0.001, 0.002, 0.001], 0.01));
    assert.deepEqual(found.layers, [CHEAP, CHEAP, CHEAP]);
    assert.equal(found.runs, 1);
  });

  it('keeps as many easy layers cheap as the bound allows, then tries the next way, then dense', async () => {
    const given = search([0.5, 0.004, 0.001, 0.002, 0.03], 0.01);
    const { layers, loss, runs } = await calibrate(given);
    // 0.001 + 0.002 + 0.004 fit; 0.03 by its dearer way, 0.003, too; 0.5 by none.
    assert.deepEqual(layers, [{ mode: 'dense' }, CHEAP, CHEAP, CHEAP, DEAR]);
    assert(Math.abs(loss - 0.01) < 1e-9);
    assert.equal(runs, given.asked.length);
    assert(runs <= 8);
  });

  it('leaves all dense when nothing fits', async () => {
    const { layers, loss } = await calibrate(search([1, 1], 0.01));
    assert.deepEqual(layers, [{ mode: 'dense' }, { mode: 'dense' }]);
    assert.equal(loss, 0);
  });
});
