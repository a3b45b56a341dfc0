import assert from 'node:assert/strict';
import { ArtifactSlot, Directive } from '@spotlight/proto';
import { DesiredState } from './desired-state.js';

describe('desired state', () => {
  let drained: boolean[];
  let slots: ArtifactSlot[];
  let state: DesiredState;
  beforeEach(() => {
    drained = [];
    slots = [
      ArtifactSlot.fromPartial({ slot: 0, artifactDigest: 'aa', active: true }),
      ArtifactSlot.fromPartial({ slot: 1, artifactDigest: 'bb' }),
    ];
    state = new DesiredState(
      { drain: (_cause, on) => drained.push(on) },
      {
        list: () => slots,
        activate: (slot) => {
          slots = slots.map((each) => ({ ...each, active: each.slot === slot }));
        },
      },
    );
  });
  const apply = (parts: Partial<Directive>): boolean => state.apply(Directive.fromPartial(parts));

  it('takes the highest generation and ignores lower ones, whoever sends them', () => {
    assert.ok(apply({ generation: 5n, drain: true }));
    assert.ok(!apply({ generation: 4n, drain: false }));
    assert.ok(apply({ generation: 5n, drain: true }), 'the same again changes nothing');
    assert.ok(apply({ generation: 6n, drain: false }));
    assert.deepEqual(drained, [true, true, false]);
    assert.equal(state.generation, 6n);
  });

  it('flips to a loaded slot', () => {
    apply({ generation: 1n, slots: [{ artifactDigest: 'bb', active: true }] });
    assert.deepEqual(
      slots.map((slot) => slot.active),
      [false, true],
    );
    assert.equal(state.generation, 1n);
    assert.equal(state.message, '');
  });

  it('says what keeps a directive from being in force, and reports the generation that is', () => {
    apply({ generation: 1n });
    apply({ generation: 2n, slots: [{ artifactDigest: 'cc', active: false }] });
    assert.equal(state.generation, 1n);
    assert.match(state.message, /artifact cc is not on this worker/);
    apply({ generation: 4n });
    assert.equal(state.generation, 4n);
    assert.equal(state.message, '');
  });
});
