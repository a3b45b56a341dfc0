import assert from 'node:assert/strict';
import { maxScorePicker } from './picker.js';
import { totalScores } from './policy.js';
import { request, worker } from './snapshot.fixture.js';

const workers = ['a', 'b', 'c'].map((id) => worker(id));

describe('totalScores', () => {
  it('is the weighted sum, and does not ask a scorer of weight 0', () => {
    const one = { name: 'one', score: () => [1, 0.5, 0] };
    const never = {
      name: 'never',
      score: () => {
        throw new Error('asked');
      },
    };
    const totals = totalScores(
      [
        { scorer: one, weight: 2 },
        { scorer: never, weight: 0 },
        { scorer: { name: 'two', score: () => [0, 1, 1] }, weight: 3 },
      ],
      workers,
      request(),
    );
    assert.deepEqual(totals, [2, 4, 3]);
  });
});

describe('maxScorePicker', () => {
  it('takes the highest', () => {
    assert.equal(maxScorePicker(workers, [1, 3, 2], request()), 1);
    assert.equal(maxScorePicker(workers, [0, 0, 0.1], request()), 2);
  });

  it('breaks ties the same way for the same request, and evenly over requests', () => {
    const counts = [0, 0, 0];
    for (let i = 0; i < 3000; i++) {
      const one = request({ prefixHashes: [7n, BigInt(i)] });
      const pick = maxScorePicker(workers, [1, 1, 1], one);
      assert.equal(maxScorePicker(workers, [1, 1, 1], one), pick);
      counts[pick] = (counts[pick] ?? 0) + 1;
    }
    for (const count of counts) assert.ok(count > 850 && count < 1150, String(counts));
  });

  it('never breaks a tie towards a lower score, rounding aside', () => {
    for (let i = 0; i < 100; i++) {
      const one = request({ prefixHashes: [BigInt(i)] });
      assert.notEqual(maxScorePicker(workers, [1, 0.9, 1 - 1e-12], one), 1);
    }
  });
});
