import assert from 'node:assert/strict';
import { crossing } from './crossover.js';

const races = (...ratios: readonly (readonly [context: number, dense: number, ours: number])[]) =>
  ratios.map(([context, dense, ours]) => ({ context, dense, ours }));

describe('crossing', () => {
  it('is where the lines of a log-log plot meet, in whole blocks', () => {
    // Dense doubles with the context, ours stands still: they meet where dense has grown by sqrt(2).
    const at = crossing(races([4096, 10, 10 * Math.SQRT2], [8192, 20, 10 * Math.SQRT2]));
    assert.equal(at, Math.ceil((4096 * Math.SQRT2) / 64) * 64);
  });
  it('is the first context measured when ours wins everywhere', () => {
    assert.equal(crossing(races([2048, 20, 10], [1024, 11, 10])), 1024);
  });
  it('is undefined when dense wins at the longest context, whatever happened before', () => {
    assert.equal(crossing(races([1024, 9, 10], [2048, 11, 10], [4096, 9, 10])), undefined);
    assert.equal(crossing([]), undefined);
  });
  it('counts from the last loss, since below it the deployment would lose somewhere', () => {
    const at = crossing(races([1024, 11, 10], [2048, 10, 11], [4096, 20, 10])) ?? 0;
    assert.ok(at > 2048 && at < 4096, String(at));
  });
});
