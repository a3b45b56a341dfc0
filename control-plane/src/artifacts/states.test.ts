import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import type { ArtifactEvent } from './states.js';
import { ARTIFACT_STATES, nextState, refusedIn } from './states.js';

const EVENTS: readonly ArtifactEvent[] = ['pass', 'fail', 'activate', 'supersede', 'adopt', 'retire'];

describe('states of an artifact', () => {
  it('move by this table and no other way', () => {
    const table = Object.fromEntries(
      ARTIFACT_STATES.map((state) => [
        state,
        EVENTS.map((event) => nextState(state, event) ?? '-').join(' '),
      ]),
    );
    //          pass      fail     activate supersede adopt  retire
    assert.deepEqual(table, {
      draft: 'validated rejected - - active retired',
      validated: 'validated rejected active - active retired',
      active: 'active active active validated active -',
      retired: '- - - - - -',
      rejected: 'validated rejected - - active retired',
    });
  });

  it('never reach active without a verdict or the operator, and never leave retired', () => {
    for (const state of ARTIFACT_STATES) {
      if (nextState(state, 'activate') !== undefined) assert.ok(['validated', 'active'].includes(state));
    }
    for (const event of EVENTS) assert.equal(nextState('retired', event), undefined, event);
  });

  it('refuse with the state as code, the artifact and what to do', () => {
    const error = refusedIn('retired', 'ab'.repeat(32), 'made active');
    assert.equal(error.code, ErrorCode.FAILED_PRECONDITION);
    assert.equal(error.openaiCode, 'artifact_retired');
    assert.equal(
      error.message,
      'Artifact abababababab is retired: choose another, or delete it and push it again; it cannot be made active.',
    );
  });
});
