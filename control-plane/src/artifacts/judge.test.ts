import assert from 'node:assert/strict';
import type { Measurement } from './judge.js';
import { FLOOR, whyRejected } from './judge.js';

const measured = (iou: number, keptMass: number, layers?: Measurement['layers']): Measurement => ({
  iou,
  keptMass,
  layers: layers ?? [{ layer: 0, iou, keptMass }],
});
const baseline = { iou: 0.5, keptMass: 0.9 };

describe('whyRejected', () => {
  const cases: [string, Measurement, Parameters<typeof whyRejected>[1], RegExp | undefined][] = [
    ['passes what equals the active one', measured(0.5, 0.9), { baseline, leastQuality: 1 }, undefined],
    ['passes what is on the bar', measured(0.4, 0.72), { baseline, leastQuality: 0.8 }, undefined],
    [
      'names what is below it, with both numbers',
      measured(0.39, 0.9),
      { baseline, leastQuality: 0.8 },
      /^IoU 0\.390 is below 0\.400, 80% of the active artifact's 0\.500$/,
    ],
    [
      'names both',
      measured(0.1, 0.2),
      { baseline, leastQuality: 0.8 },
      /^IoU 0\.100 .*; kept mass 0\.200 is below 0\.720/,
    ],
    [
      'passes what reaches the floor',
      measured(FLOOR.iou, FLOOR.keptMass),
      { baseline: undefined, leastQuality: 0.8 },
      undefined,
    ],
    [
      'names the floor where nothing is active',
      measured(FLOOR.iou - 0.01, 1),
      { baseline: undefined, leastQuality: 0.8 },
      /below 0\.300, the floor without an active artifact/,
    ],
    [
      'takes no number for a measurement',
      measured(Number.NaN, 0.9),
      { baseline, leastQuality: 0.8 },
      /measured IoU NaN/,
    ],
    ['nor more than all', measured(0.5, 1.5), { baseline, leastQuality: 0.8 }, /kept mass 1\.5/],
    [
      'nor a layer without one',
      measured(0.5, 0.9, [{ layer: 3, iou: 0.5, keptMass: Number.NaN }]),
      { baseline, leastQuality: 0.8 },
      /kept mass NaN/,
    ],
    ['nor no layer', measured(0.5, 0.9, []), { baseline, leastQuality: 0.8 }, /measured no layer/],
  ];
  for (const [name, quality, bar, reason] of cases) {
    it(name, () => {
      const told = whyRejected(quality, bar);
      if (reason === undefined) assert.equal(told, undefined);
      else assert.match(told ?? 'passed', reason);
    });
  }
});
