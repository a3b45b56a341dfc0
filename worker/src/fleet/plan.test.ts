import assert from 'node:assert/strict';
import type { SlotId } from '@spotlight/cuda';
import { plan } from './plan.js';
import type { Plan, SlotView, WantedArtifact } from './plan.js';

/** 'A*!2' is artifact A, active, ready, with two requests; '' is empty. */
function view(slot: SlotId, text: string): SlotView {
  return {
    slot,
    digest: /^[A-Z]?/.exec(text)?.[0] ?? '',
    active: text.includes('*'),
    ready: text.includes('!'),
    requests: Number(/\d+/.exec(text)?.[0] ?? 0),
  };
}

function run(wanted: string, zero: string, one: string, failed: readonly string[] = []): Plan {
  const list: WantedArtifact[] = wanted
    .split(' ')
    .filter((part) => part !== '')
    .map((part) => ({ digest: part.replace('*', ''), active: part.endsWith('*') }));
  return plan(list, [view(0, zero), view(1, one)], new Set(failed));
}

function told({ action, pending, inForce, settled }: Plan): string {
  const what =
    action === undefined
      ? ''
      : `${action.kind}${action.kind === 'load' ? ` ${action.digest}` : ''} ${action.slot}`;
  const waits = pending.filter(({ waitsFor }) => waitsFor !== '').map(({ digest }) => `${digest} waits`);
  return [what, ...waits, inForce ? 'in force' : '', settled ? 'settled' : '']
    .filter((part) => part !== '')
    .join(', ');
}

describe('plan', () => {
  // What is wanted, slot 0, slot 1 -> what follows.
  const table: readonly (readonly [string, string, string, string])[] = [
    // Nothing said: all stays.
    ['', 'A*!3', 'B!', 'in force, settled'],
    ['A*', 'A*!', '', 'in force, settled'],
    // Staging beside the active one.
    ['A* B', 'A*!3', '', 'load B 1'],
    ['A* B', 'A*!3', 'B', ''],
    ['A* B', 'A*!3', 'B!', 'in force, settled'],
    // The flip waits for the rehash, and for nothing else.
    ['A B*', 'A*!3', 'B1', ''],
    ['A B*', 'A*!3', 'B!1', 'activate 1'],
    ['A B*', 'A!3', 'B*!1', 'in force, settled'],
    // Rolling back is the same flip.
    ['A* B', 'A!3', 'B*!9', 'activate 0'],
    // What is no longer wanted stays for its requests, then goes.
    ['B*', 'A!3', 'B*!', 'in force'],
    ['B*', 'A!', 'B*!', 'unload 0, in force'],
    ['B*', '', 'B*!', 'in force, settled'],
    // The active one is never let go before another takes over.
    ['B*', 'A*!', '', 'load B 1'],
    ['B*', 'A*!', 'B', ''],
    ['B*', 'A*!', 'B!', 'activate 1'],
    // A third one needs the place of an unwanted one, and waits for its requests.
    ['A* C', 'A*!', 'B!2', 'C waits'],
    ['A* C', 'A*!', 'B!', 'load C 1'],
    ['C*', 'A*!', 'B!2', 'C waits'],
    // Both are new: the active one first, then the place of the one it replaced.
    ['C* D', 'A*!2', 'B!', 'load C 1, D waits'],
    ['C* D', 'A*!2', 'C!', 'activate 1, D waits'],
    ['C* D', 'A!2', 'C*!', 'D waits'],
    ['C* D', 'A!', 'C*!', 'load D 0'],
    // The one beside it gives way to the one that is to be active, and comes back after.
    ['A* B', 'B!', 'C*!', 'load A 0'],
    ['A* B', 'B!1', 'C*!', 'A waits'],
    ['A* B', 'A!', 'C*!', 'activate 0, B waits'],
    ['A* B', 'A*!', 'C!', 'load B 1'],
    // After a restart planes may stand the other way round.
    ['A B*', 'B*!', 'A!', 'in force, settled'],
    // A worker without artifact serves on while it takes one, and flips to it at once.
    ['A*', '*5', '', 'load A 1'],
    ['A*', '*5', 'A', 'activate 1'],
    ['A', '*', '', 'load A 1'],
    ['A* B', '*5', '', 'load A 1, B waits'],
    ['A* B', '5', 'A*!', 'B waits'],
    // A slot in use for a measurement is waited for.
    ['A* B', 'A*!', '1', 'B waits'],
  ];
  for (const [wanted, zero, one, expected] of table) {
    it(`${wanted || 'nothing'} wanted, [${zero}] [${one}] -> ${expected || 'waits'}`, () => {
      assert.equal(told(run(wanted, zero, one)), expected);
    });
  }

  it('tries nothing for what has failed, and goes on with the rest', () => {
    assert.equal(told(run('A* B', 'A*!', '', ['B'])), '');
    assert.equal(told(run('A* B', 'A!', 'C*!', ['B'])), 'activate 0, B waits');
  });

  it('ends in what is wanted from every state, one action at a time', () => {
    const names = ['', 'A', 'B', 'C'];
    const states: [SlotView, SlotView][] = [];
    for (const zero of names)
      for (const one of names)
        for (const active of [0, 1] as const)
          if (zero === '' || zero !== one)
            states.push([
              view(0, zero + (active === 0 ? '*' : '')),
              view(1, one + (active === 1 ? '*' : '')),
            ]);
    for (const wanted of ['A*', 'A* B', 'B* A', 'C*', 'A* C', 'C* B']) {
      for (const start of states) {
        let slots: SlotView[] = [...start];
        const list = wanted.split(' ').map((part) => ({ digest: part[0] ?? '', active: part.includes('*') }));
        for (let steps = 0; ; steps++) {
          assert.ok(
            steps < 12,
            `${wanted} from [${start.map(({ digest }) => digest).join('] [')}] never ends`,
          );
          // Rehashing ends by itself.
          slots = slots.map((slot) => ({ ...slot, ready: slot.digest !== '' }));
          const next = plan(list, slots, new Set());
          const { action } = next;
          if (action === undefined) {
            assert.ok(next.settled && next.inForce, JSON.stringify([wanted, start, slots, next]));
            break;
          }
          slots = slots.map((slot) => {
            if (action.kind === 'activate') return { ...slot, active: slot.slot === action.slot };
            if (slot.slot !== action.slot) return slot;
            return { ...slot, digest: action.kind === 'load' ? action.digest : '', ready: false };
          });
        }
        const held = slots.filter(({ digest }) => digest !== '').map(({ digest }) => digest);
        assert.deepEqual(held.sort(), list.map(({ digest }) => digest).sort());
        assert.equal(slots.find(({ active }) => active)?.digest, wanted[0]);
      }
    }
  });
});
