// What every scorer owes (one score in [0, 1] a worker, for any load), then what each is for.
import assert from 'node:assert/strict';
import { PrefixIndex } from '../prefix-index.js';
import { request, worker } from '../snapshot.fixture.js';
import { freeBlocksScorer } from './free-blocks.js';
import { prefixScorer } from './prefix.js';
import { queueScorer } from './queue.js';
import { sessionScorer } from './session.js';
import { yieldsUnderImbalance } from './yields.js';

const index = new PrefixIndex(100);
index.record([1n, 2n, 3n], 'a');
index.record([1n], 'b');
const prefix = prefixScorer(index);

describe('scorers', () => {
  for (const scorer of [
    queueScorer,
    freeBlocksScorer,
    prefix,
    sessionScorer,
    yieldsUnderImbalance(prefix, 4),
  ]) {
    it(`${scorer.name}: one score in [0, 1] a worker, whatever they report`, () => {
      const extreme = 2 ** 32 - 1;
      const workers = [
        worker('a'),
        worker('b', { running: extreme, waiting: extreme, waitingTokens: extreme, freeBlocks: 0 }),
        worker('c', { freeBlocks: extreme, totalBlocks: 1 }, { inFlight: 1e6 }),
        worker('d', { totalBlocks: 0, freeBlocks: 0 }),
      ];
      for (const some of [workers, workers.slice(0, 1), workers.slice(1, 2)]) {
        for (const one of [request(), request({ sessionId: 's', prefixHashes: [1n, 2n] })]) {
          const scores = scorer.score(some, one);
          assert.equal(scores.length, some.length);
          for (const score of scores) assert.ok(score >= 0 && score <= 1, String(score));
        }
      }
    });
  }

  it('queue: the shortest scores 1, the longest of many 0, and one request more is no landslide', () => {
    assert.deepEqual(queueScorer.score([worker('a', { running: 10 }), worker('b')], request()), [0, 1]);
    assert.deepEqual(queueScorer.score([worker('a', { running: 1 }), worker('b')], request()), [0.75, 1]);
    assert.deepEqual(queueScorer.score([worker('a', {}, { inFlight: 4 }), worker('b')], request()), [0, 1]);
  });

  it('queue: a long prompt that waits weighs like several requests', () => {
    const [long, short] = queueScorer.score(
      [worker('a', { waiting: 1, waitingTokens: 131_072 }), worker('b', { waiting: 3 })],
      request(),
    );
    assert.ok(short! > long!);
  });

  it('free-blocks: the free share', () => {
    const workers = [worker('a', { freeBlocks: 25 }), worker('b', { freeBlocks: 50, totalBlocks: 50 })];
    assert.deepEqual(freeBlocksScorer.score(workers, request()), [0.25, 1]);
  });

  it('prefix: the share of the prompt each has seen', () => {
    const workers = [worker('a'), worker('b'), worker('c')];
    assert.deepEqual(prefix.score(workers, request({ prefixHashes: [1n, 2n, 9n, 10n] })), [0.5, 0.25, 0]);
    assert.deepEqual(prefix.score(workers, request()), [0, 0, 0]);
  });

  it('session: one worker a session, the same in any order, evenly over sessions', () => {
    const workers = ['a', 'b', 'c', 'd'].map((id) => worker(id));
    const home = (sessionId: string, among = workers): string => {
      const scores = sessionScorer.score(among, request({ sessionId }));
      assert.equal(scores.filter((score) => score === 1).length, 1);
      return among[scores.indexOf(1)]!.workerId;
    };
    const sessions = Array.from({ length: 2000 }, (_, i) => `s${i}`);
    const counts = new Map<string, number>();
    let moved = 0;
    for (const session of sessions) {
      const at = home(session);
      assert.equal(home(session, [...workers].reverse()), at);
      counts.set(at, (counts.get(at) ?? 0) + 1);
      const without = home(session, workers.slice(0, 3));
      if (at !== 'd' && without !== at) moved++;
    }
    for (const count of counts.values()) assert.ok(count > 400 && count < 600, String(count));
    assert.equal(moved, 0, 'only the sessions of the worker that left move');
    assert.deepEqual(sessionScorer.score(workers, request()), [0, 0, 0, 0]);
  });

  it('affinity yields to a large imbalance, in number and in proportion, and to no smaller one', () => {
    const yielding = yieldsUnderImbalance(prefix, 4);
    const one = request({ prefixHashes: [1n, 2n, 3n] });
    const score = (a: number, b: number): number =>
      yielding.score([worker('a', { running: a }), worker('b', { running: b })], one)[0]!;
    assert.equal(score(4, 0), 1);
    assert.equal(score(5, 0), 0);
    assert.equal(score(20, 15), 1, 'a third more is no hotspot');
    assert.equal(score(30, 15), 0);
  });
});
