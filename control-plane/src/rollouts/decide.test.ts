// The rule as a table: where a rollout stands, what its workers report, what time it is, and the one move that follows.
import assert from 'node:assert/strict';
import type { Decision, RolloutState, RolloutWorker } from './decide.js';
import { decide, FAILURE_GRACE_MS, waveSize } from './decide.js';
import { CANDIDATE, counted, counters, plan, rollout, STABLE, START, worker } from './rollout.fixture.js';

interface Case {
  readonly name: string;
  readonly rollout: Partial<RolloutState>;
  readonly workers?: readonly RolloutWorker[];
  readonly afterMs?: number;
  readonly then: Partial<Record<keyof Decision | 'phase' | 'wave' | 'outcome', unknown>>;
  readonly saying?: RegExp;
}

const staging: Partial<RolloutState> = { phase: 'staging', heldSinceMs: null, mark: null, origin: null };
const lastWave: Partial<RolloutState> = { phase: 'waves', wave: 1 };
const flipped = { active: CANDIDATE };
const both = [worker('w1'), worker('w2')];
const bothFlipped = [worker('w1', flipped), worker('w2', flipped)];
const without = (id: string, change: Partial<RolloutWorker> = {}): RolloutWorker =>
  worker(id, { holds: [STABLE], ...change });
const bad = (change: Parameters<typeof counted>[1]): RolloutWorker[] => [
  worker('w1', { counters: counters(counted(100), counted(100, change)) }),
];
const HELD = 60_000;
const LATE = 600_000;

const CASES: readonly Case[] = [
  // staging
  {
    name: 'waits until every ready worker holds it',
    rollout: staging,
    workers: [worker('w1'), without('w2')],
    then: { kind: 'wait' },
    saying: /1 of 2 workers hold it/,
  },
  {
    name: 'begins its canary then',
    rollout: staging,
    workers: both,
    then: { kind: 'enter', phase: 'canary' },
  },
  {
    name: 'does not wait for a worker that starts or drains',
    rollout: staging,
    workers: [worker('w1'), without('w2', { ready: false })],
    then: { kind: 'enter', phase: 'canary' },
  },
  {
    name: 'goes straight to the waves without a share',
    rollout: { ...staging, plan: plan({ share: 0 }) },
    workers: both,
    then: { kind: 'enter', phase: 'waves', wave: 0 },
  },
  {
    name: 'waits for workers when there are none',
    rollout: staging,
    workers: [],
    then: { kind: 'wait' },
    saying: /no worker/,
  },
  {
    name: 'stays staged while paused',
    rollout: { ...staging, paused: true },
    workers: both,
    then: { kind: 'wait' },
  },
  {
    name: 'goes to the last wave at once when forced',
    rollout: { ...staging, forced: true },
    workers: both,
    then: { kind: 'enter', phase: 'waves', wave: 1 },
  },
  {
    name: 'gives a worker that cannot hold it time to try again',
    rollout: staging,
    workers: [without('w1', { failure: { message: 'digest mismatch', forMs: FAILURE_GRACE_MS - 1 } })],
    then: { kind: 'wait' },
  },
  {
    name: 'fails when it still cannot',
    rollout: staging,
    workers: [without('w1', { failure: { message: 'digest mismatch', forMs: FAILURE_GRACE_MS } })],
    then: { kind: 'roll_back', outcome: 'failed' },
    saying: /w1 cannot hold it: digest mismatch/,
  },
  {
    name: 'fails when staging takes too long',
    rollout: staging,
    workers: [without('w1')],
    afterMs: LATE,
    then: { kind: 'roll_back', outcome: 'failed' },
    saying: /longer than 600 s: 0 of 1 workers hold it/,
  },
  {
    name: 'does not run out of time while paused',
    rollout: { ...staging, paused: true },
    workers: [without('w1')],
    afterMs: LATE,
    then: { kind: 'wait' },
  },
  // canary
  {
    name: 'begins the hold when a worker has the canary',
    rollout: { heldSinceMs: null, mark: null },
    workers: both,
    then: { kind: 'hold' },
  },
  {
    name: 'waits when nobody holds the canary any more',
    rollout: { heldSinceMs: null, mark: null },
    workers: [without('w1')],
    then: { kind: 'wait' },
    saying: /no worker holds it/,
  },
  {
    name: 'holds the canary for its time',
    rollout: {},
    afterMs: HELD - 1,
    then: { kind: 'wait' },
    saying: /1 s more/,
  },
  {
    name: 'goes to the first wave after it',
    rollout: {},
    afterMs: HELD,
    then: { kind: 'enter', phase: 'waves', wave: 0 },
  },
  {
    name: 'holds while paused',
    rollout: { paused: true },
    afterMs: HELD,
    then: { kind: 'wait' },
    saying: /paused/,
  },
  {
    name: 'waits for samples however long it has held',
    rollout: {},
    workers: [worker('w1', { counters: counters(counted(100), counted(49)) })],
    afterMs: HELD,
    then: { kind: 'wait' },
    saying: /49 of 50 requests/,
  },
  {
    name: 'fails when they never come',
    rollout: {},
    workers: [worker('w1', { counters: counters(counted(100), counted(49)) })],
    afterMs: LATE,
    then: { kind: 'roll_back', outcome: 'failed' },
    saying: /49 of 50 requests/,
  },
  {
    name: 'goes on with few samples when forced',
    rollout: { forced: true },
    workers: [worker('w1', { counters: counters(counted(0), counted(0)) })],
    then: { kind: 'enter', phase: 'waves', wave: 1 },
  },
  // gates
  {
    name: 'rolls back at once when the kept mass falls',
    rollout: {},
    workers: bad({ kept: 0.8 }),
    then: { kind: 'roll_back', outcome: 'rolled_back' },
    saying: /kept mass 0\.800, at least 0\.848 is asked of 1000 samples/,
  },
  {
    name: 'rolls back for the IoU',
    rollout: {},
    workers: bad({ iouSum: 100 }),
    then: { kind: 'roll_back' },
    saying: /IoU 0\.100/,
  },
  {
    name: 'rolls back for errors before it has the least number of requests',
    rollout: {},
    workers: [worker('w1', { counters: counters(counted(100), { ...counted(0), failed: 2 }) })],
    then: { kind: 'roll_back' },
    saying: /2 of 2 requests failed/,
  },
  {
    name: 'lets one failure among the least number pass',
    rollout: {},
    workers: [worker('w1', { counters: counters(counted(100), { ...counted(49), failed: 1 }) })],
    afterMs: HELD,
    then: { kind: 'enter' },
  },
  {
    name: 'does not blame the candidate for errors that both have',
    rollout: {},
    workers: [
      worker('w1', { counters: counters({ ...counted(90), failed: 10 }, { ...counted(90), failed: 10 }) }),
    ],
    afterMs: HELD,
    then: { kind: 'enter' },
  },
  {
    name: 'rolls back when it is slower',
    rollout: {},
    workers: bad({ ms: 70 }),
    then: { kind: 'roll_back' },
    saying: /95% of the time to the first token.*; 95% of the time between tokens/,
  },
  {
    name: 'leaves a gate that is switched off alone',
    rollout: { plan: plan({ gates: { keptMassDrop: null } }) },
    workers: bad({ kept: 0.1 }),
    afterMs: HELD,
    then: { kind: 'enter' },
  },
  {
    name: 'rolls back while paused',
    rollout: { paused: true },
    workers: bad({ kept: 0.1 }),
    then: { kind: 'roll_back' },
  },
  {
    name: 'takes an operator at his word',
    rollout: { ...lastWave, forced: true },
    workers: [worker('w1', { ...flipped, counters: counters(counted(100), counted(100, { kept: 0.1 })) })],
    then: { kind: 'end', phase: 'done' },
  },
  // waves
  {
    name: 'begins a wave when its part of the workers answers under it',
    rollout: { phase: 'waves', wave: 0, heldSinceMs: null, mark: null },
    workers: [worker('w1', flipped), worker('w2')],
    then: { kind: 'hold' },
  },
  {
    name: 'waits for them before',
    rollout: { phase: 'waves', wave: 1, heldSinceMs: null, mark: null },
    workers: [worker('w1', flipped), worker('w2')],
    then: { kind: 'wait' },
    saying: /1 of 2 workers answer under it/,
  },
  {
    name: 'goes from wave to wave',
    rollout: { phase: 'waves', wave: 0 },
    workers: [worker('w1', flipped), worker('w2')],
    afterMs: HELD,
    then: { kind: 'enter', phase: 'waves', wave: 1 },
  },
  {
    name: 'is done after the last',
    rollout: lastWave,
    workers: bothFlipped,
    afterMs: HELD,
    then: { kind: 'end', phase: 'done' },
  },
  {
    name: 'is not done while a worker that came back still answers under the old one',
    rollout: lastWave,
    workers: [worker('w1', flipped), worker('w2')],
    afterMs: HELD,
    then: { kind: 'wait' },
  },
  {
    name: 'compares the last wave with what was before, when nobody is left to compare with',
    rollout: { ...lastWave, mark: { atMs: START, workers: { w1: counters(counted(100), counted(0)) } } },
    workers: [worker('w1', { ...flipped, counters: counters(counted(100), counted(100, { kept: 0.5 })) })],
    then: { kind: 'roll_back' },
    saying: /kept mass 0\.500/,
  },
  {
    name: 'fails when somebody changed the deployment past it',
    rollout: { active: 'c'.repeat(64) },
    then: { kind: 'roll_back', outcome: 'failed' },
    saying: /changed to c/,
  },
  // back
  {
    name: 'is back when every worker is',
    rollout: { phase: 'rolling_back', outcome: 'rolled_back' },
    workers: both,
    then: { kind: 'end', phase: 'rolled_back' },
  },
  {
    name: 'waits for those that are not',
    rollout: { phase: 'rolling_back', outcome: 'aborted' },
    workers: [worker('w1', flipped), worker('w2', { inForce: false })],
    then: { kind: 'wait' },
    saying: /w1, w2/,
  },
  {
    name: 'gives up on those that never are',
    rollout: { phase: 'rolling_back', outcome: 'aborted' },
    workers: [worker('w1', flipped)],
    afterMs: LATE,
    then: { kind: 'end', phase: 'failed' },
    saying: /still not yet back.*w1/,
  },
  {
    name: 'comes back while paused',
    rollout: { phase: 'rolling_back', outcome: 'aborted', paused: true },
    workers: both,
    then: { kind: 'end', phase: 'aborted' },
  },
  { name: 'does nothing once it has ended', rollout: { phase: 'done' }, then: { kind: 'wait' } },
];

describe('decide', () => {
  for (const { name, rollout: change, workers = both, afterMs = 0, then, saying } of CASES) {
    it(name, () => {
      const { decision } = decide(rollout(change), workers, START + afterMs);
      const picked = Object.fromEntries(
        Object.keys(then).map((key) => [key, (decision as unknown as Record<string, unknown>)[key]]),
      );
      assert.deepEqual(picked, then, JSON.stringify(decision));
      if (saying !== undefined) assert.match(JSON.stringify(decision), saying);
    });
  }

  it('takes at least one worker in a wave, and all in the last', () => {
    const waves = plan({ waves: [0.01, 0.5, 1] });
    const sizes = [1, 2, 3, 100].map((count) => [0, 1, 2].map((wave) => waveSize(waves, wave, count)));
    assert.deepEqual(sizes, [
      [1, 1, 1],
      [1, 1, 2],
      [1, 2, 3],
      [1, 50, 100],
    ]);
  });
});
