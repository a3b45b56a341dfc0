import assert from 'node:assert/strict';
import type { BlockId } from '@spotlight/cuda';
import { StaleCodes } from './stale-codes.js';

const block = (id: number): BlockId => id as BlockId;
const all = (): boolean => true;

describe('StaleCodes', () => {
  it('holds everything stale that was written before the slot changed, by slot', () => {
    const stale = new StaleCodes(6);
    assert.equal(stale.count(0, all), 0);
    stale.changed(1);
    stale.renewed(block(2));
    assert.equal(stale.count(0, all), 0);
    assert.equal(stale.count(1, all), 5);
    assert.equal(
      stale.count(1, (id) => id < 3),
      2,
    );
    stale.copied(block(1), block(2));
    assert.ok(stale.isStale(1, block(2)), 'a copy is as old as its original');
    stale.rehashed(1, [block(0), block(1)]);
    assert.equal(stale.count(1, all), 4);
    stale.emptied(1);
    assert.equal(stale.count(1, all), 0);
  });

  it('gives some of those wanted, each once, and starts over with the next artifact', () => {
    const stale = new StaleCodes(8);
    stale.changed(0);
    const even = (id: BlockId): boolean => id % 2 === 0;
    const seen: number[] = [];
    for (let some = stale.some(0, 3, even); some.length > 0; some = stale.some(0, 3, even)) {
      assert.ok(some.length <= 3);
      seen.push(...some);
      stale.rehashed(0, some);
    }
    assert.deepEqual(seen.sort(), [0, 2, 4, 6]);
    stale.changed(0);
    assert.deepEqual(stale.some(0, 2, even), [0, 2]);
  });
});
