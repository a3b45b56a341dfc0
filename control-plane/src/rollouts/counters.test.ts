import assert from 'node:assert/strict';
import { ArtifactStats } from '@spotlight/proto';
import type { Mark } from './counters.js';
import { countersOf, quantile, requestsOf, since } from './counters.js';
import { BOUNDS, counted, START } from './rollout.fixture.js';

describe('counters', () => {
  const of = (requests: number, startedMs = START): ReturnType<typeof countersOf> => ({
    startedMs,
    byArtifact: { a: counted(requests) },
  });
  const mark: Mark = { atMs: START + 500, workers: { same: of(10), again: of(10) } };

  it('count what happened since the mark, over all workers', () => {
    const now = { same: of(25), again: of(3, START + 900), fresh: of(4, START + 600) };
    assert.equal(requestsOf(since(mark, now, 'a')), 15 + 3 + 4);
    assert.equal(since(mark, now, 'a').interToken.counts[1], 9 * (15 + 3 + 4));
    assert.equal(requestsOf(since(mark, now, 'other')), 0);
  });

  it('leave out a worker that was away at the mark, whose sums hold older times', () => {
    assert.equal(requestsOf(since(mark, { away: of(1000, START) }, 'a')), 0);
  });

  it('count an artifact from zero that the mark does not know', () => {
    const before: Mark = { atMs: START, workers: { w: { startedMs: START, byArtifact: {} } } };
    assert.equal(requestsOf(since(before, { w: of(7) }, 'a')), 7);
  });

  it('survive JSON as they are', () => {
    const read = countersOf(5, [
      ArtifactStats.fromPartial({
        artifactDigest: 'a',
        requestsFinished: 3n,
        requestsFailed: 1n,
        qualitySamples: 2n,
        iouSum: 0.5,
        timeToFirstToken: { bounds: [1, 2], counts: [1n, 2n, 3n], sum: 9 },
      }),
    ]);
    assert.deepEqual(JSON.parse(JSON.stringify(read)), read);
    assert.deepEqual(read.byArtifact['a']?.firstToken, { bounds: [1, 2], counts: [1, 2, 3] });
    assert.equal(read.byArtifact['a'].finished, 3);
  });

  it('give percentiles within buckets', () => {
    const histogram = { bounds: BOUNDS, counts: [50, 50, 0, 0, 0, 0, 0] };
    assert.equal(quantile(histogram, 0.5), 0.01);
    assert.ok(Math.abs((quantile(histogram, 0.75) ?? 0) - 0.015) < 1e-12);
    assert.equal(quantile({ bounds: BOUNDS, counts: [0, 0, 0, 0, 0, 0, 9] }, 0.95), 0.32);
    assert.equal(quantile({ bounds: BOUNDS, counts: [] }, 0.95), undefined);
  });

  it('keep the first cut of buckets where versions differ', () => {
    const other = { ...counted(5), interToken: { bounds: [1], counts: [5, 0] } };
    const now = { a: of(10), b: { startedMs: START, byArtifact: { a: other } } };
    const sum = since({ atMs: START, workers: {} }, now, 'a');
    assert.deepEqual(sum.interToken.bounds, BOUNDS);
    assert.equal(requestsOf(sum), 15);
  });
});
