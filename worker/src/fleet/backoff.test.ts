import assert from 'node:assert/strict';
import { waitBefore } from './backoff.js';

const limits = { firstMs: 200, mostMs: 10_000 };

describe('waitBefore', () => {
  it('doubles up to the limit', () => {
    const waits = [1, 2, 3, 6, 7, 1000].map((failures) => waitBefore(failures, 0.999, limits));
    assert.deepEqual(waits, [200, 400, 800, 6397, 9995, 9995]);
  });

  it('is spread over the upper half of each wait', () => {
    assert.equal(waitBefore(3, 0, limits), 400);
    assert.equal(waitBefore(3, 0.5, limits), 600);
  });
});
