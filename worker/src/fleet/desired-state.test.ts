import assert from 'node:assert/strict';
import { Directive } from '@spotlight/proto';
import { DesiredState } from './desired-state.js';
import type { WantedArtifact } from './plan.js';

describe('desired state', () => {
  let drained: boolean[];
  let wanted: (readonly [readonly WantedArtifact[], boolean])[];
  let reconciler: { inForce: boolean; message: string; want: DesiredStateWant };
  let state: DesiredState;
  type DesiredStateWant = (list: readonly WantedArtifact[], fresh: boolean) => void;
  beforeEach(() => {
    drained = [];
    wanted = [];
    reconciler = { inForce: true, message: '', want: (list, fresh) => wanted.push([list, fresh]) };
    state = new DesiredState({ drain: (_cause, on) => drained.push(on) }, reconciler);
  });
  const apply = (parts: Partial<Directive>): boolean => state.apply(Directive.fromPartial(parts));
  const slot = (artifactDigest: string, active = false): { artifactDigest: string; active: boolean } => ({
    artifactDigest,
    active,
  });

  it('takes the highest generation and ignores lower ones, whoever sends them', () => {
    assert.equal(state.generation, 0n);
    assert.ok(apply({ generation: 5n, drain: true }));
    assert.ok(!apply({ generation: 4n, drain: false, slots: [slot('aa')] }));
    assert.ok(apply({ generation: 5n, drain: true }), 'the same again changes nothing');
    assert.ok(apply({ generation: 6n, drain: false }));
    assert.deepEqual(drained, [true, true, false]);
    assert.equal(state.generation, 6n);
    assert.deepEqual(
      wanted.map(([, fresh]) => fresh),
      [true, false, true],
      'what failed is tried again by a new directive only',
    );
  });

  it('reports the generation that is in force while a newer one is on its way, and why it is not', () => {
    apply({ generation: 1n, slots: [slot('aa', true)] });
    assert.equal(state.generation, 1n);
    reconciler.inForce = false;
    reconciler.message = 'artifact bb is on its way';
    apply({ generation: 2n, slots: [slot('aa'), slot('bb', true)] });
    assert.equal(state.generation, 1n);
    assert.equal(state.message, 'artifact bb is on its way');
    assert.deepEqual(wanted.at(-1)?.[0], [
      { digest: 'aa', active: false },
      { digest: 'bb', active: true },
    ]);
    reconciler.inForce = true;
    reconciler.message = '';
    assert.equal(state.generation, 2n);
  });

  it('refuses what no worker can be, and keeps what it has', () => {
    apply({ generation: 1n, slots: [slot('aa', true)] });
    for (const [slots, reason] of [
      [[slot('aa', true), slot('bb', true)], /two artifacts active/],
      [[slot('aa'), slot('bb'), slot('cc')], /3 artifacts, a worker holds two/],
      [[slot('aa'), slot('aa', true)], /twice/],
      [[slot('')], /without artifact_digest/],
    ] as const) {
      apply({ generation: 2n, slots: [...slots] });
      assert.match(state.message, reason);
      assert.equal(state.generation, 1n);
    }
    assert.equal(wanted.length, 1);
  });
});
