import assert from 'node:assert/strict';
import type { RolloutState } from './decide.js';
import type { DirectedWorker } from './desired-slots.js';
import { desiredSlots } from './desired-slots.js';
import { CANDIDATE, plan, rollout, STABLE } from './rollout.fixture.js';

const PINNED = { active: STABLE, asJoined: false };
const NAMES = new Map([
  [STABLE, 's'],
  [CANDIDATE, 'c'],
]);

/** A worker told `s*c`: the stable one active, the candidate besides; holding what `holds` names. */
function worker(id: string, told: string, holds = 'sc', ready = true): DirectedWorker {
  const digest = (letter: string): string => (letter === 's' ? STABLE : CANDIDATE);
  return {
    id,
    told: [...told.matchAll(/([sc])(\*?)/g)].map(([, letter, star]) => ({
      digest: digest(letter ?? ''),
      active: star === '*',
    })),
    ready,
    holds: Array.from(holds, digest),
  };
}

function told(state: RolloutState | undefined, workers: DirectedWorker[], deployment = PINNED): string {
  return [...desiredSlots(deployment, state, workers).values()]
    .map((slots) =>
      slots.map(({ digest, active }) => `${NAMES.get(digest) ?? '?'}${active ? '*' : ''}`).join(''),
    )
    .join(' ');
}

describe('desired slots', () => {
  it('are what workers came with, until somebody has chosen', () => {
    const joined = { active: STABLE, asJoined: true };
    assert.equal(told(undefined, [worker('1', ''), worker('2', 's*')], joined), ' s*');
    assert.equal(told(undefined, [worker('1', ''), worker('2', 's*c')]), 's* s*');
    assert.equal(told(undefined, [worker('1', '')], { active: null, asJoined: false } as never), '');
  });

  it('stage so many workers at a time, ready ones only', () => {
    const state = rollout({ phase: 'staging', plan: plan({ stageAtOnce: 2 }) });
    const fresh = ['1', '2', '3', '4'].map((id) => worker(id, 's*', 's', id !== '1'));
    assert.equal(told(state, fresh), 's* s*c s*c s*');
    const half = [worker('1', 's*c', 'sc'), worker('2', 's*c', 's'), worker('3', ''), worker('4', '')];
    assert.equal(told(state, half), 's*c s*c s*c ');
  });

  it('flip as many as the wave takes, and leave those flipped flipped', () => {
    const state = rollout({ phase: 'waves', wave: 0 });
    const four = (tolds: string[]): DirectedWorker[] => tolds.map((each, i) => worker(String(i), each));
    assert.equal(told(state, four(['s*c', 's*c', 's*c', 's*c'])), 'c*s c*s s*c s*c');
    assert.equal(told(state, four(['s*c', 's*c', 's*c', 'c*s'])), 'c*s s*c s*c c*s');
    assert.equal(
      told(state, four(['c*s', 'c*s', 'c*s'])),
      'c*s c*s c*s',
      'one that left does not take others back',
    );
    assert.equal(told({ ...state, wave: 1 }, four(['c*s', 's*c'])), 'c*s c*s');
  });

  it('flip nobody who does not hold it, and stage who comes late', () => {
    const state = rollout({ phase: 'waves', wave: 1 });
    assert.equal(told(state, [worker('1', 's*c', 's'), worker('2', 's*', 's')]), 's*c s*c');
  });

  it('leave a worker that is away as it was, and take it back with the others', () => {
    const away = worker('1', 'c*s', '', false);
    assert.equal(told(rollout({ phase: 'waves' }), [away, worker('2', 's*c')]), 'c*s c*s');
    for (const phase of ['rolling_back', 'rolled_back', 'failed'] as const)
      assert.equal(told(rollout({ phase }), [away, worker('2', 's*c')]), 's* s*');
    const done = { active: CANDIDATE, asJoined: false };
    assert.equal(told(rollout({ phase: 'done' }), [away, worker('2', 's*c')], done), 'c* c*');
  });
});
