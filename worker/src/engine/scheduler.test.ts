import assert from 'node:assert/strict';
import type { Choice, Request } from './request.js';
import { chooseVictim, promptBudget, spanEnd } from './scheduler.js';

const limits = { stepTokens: 100, mixedPromptTokens: 30 };

describe('promptBudget', () => {
  it('gives prompts the whole step when nothing decodes, and a bounded share beside decoding', () => {
    assert.equal(promptBudget(limits, 0), 100);
    assert.equal(promptBudget(limits, 1), 30);
    assert.equal(promptBudget(limits, 90), 10);
    assert.equal(promptBudget(limits, 100), 0);
  });
});

describe('spanEnd', () => {
  const choice = (computed: number, boundary: number, prompt: number): Choice =>
    ({ computed, request: { boundary, prompt: new Int32Array(prompt) } }) as unknown as Choice;

  it('ends at the budget or the limit', () => {
    assert.equal(spanEnd(choice(0, 50, 50), 50, 20), 20);
    assert.equal(spanEnd(choice(40, 50, 50), 50, 20), 50);
    assert.equal(spanEnd(choice(50, 50, 50), 80, 20), 70);
  });

  it('keeps to one phase and one side of the end of the prompt', () => {
    assert.equal(spanEnd(choice(0, 30, 50), 80, 100), 30);
    assert.equal(spanEnd(choice(30, 30, 50), 80, 100), 50);
    assert.equal(spanEnd(choice(50, 30, 50), 80, 100), 80);
    assert.equal(spanEnd(choice(0, 0, 50), 80, 100), 50);
  });

  it('gives nothing without a budget', () => {
    assert(spanEnd(choice(10, 50, 50), 50, 0) <= 10);
    assert(spanEnd(choice(10, 50, 50), 50, -5) <= 10);
  });
});

describe('chooseVictim', () => {
  const request = (arrival: number, paused = false): Request => ({ arrival, paused }) as unknown as Request;

  it('takes the youngest of those younger than the needer', () => {
    const [a, b, c] = [request(1), request(2), request(3)];
    assert.equal(chooseVictim([a, b, c], a), c);
    assert.equal(chooseVictim([a, b, c], b), c);
    assert.equal(chooseVictim([a, b, c], c), undefined);
    assert.equal(chooseVictim([a], a), undefined);
  });

  it('takes one that waits for its client before any that runs, however old', () => {
    const [a, b, c] = [request(1, true), request(2), request(3)];
    assert.equal(chooseVictim([a, b, c], c), a);
    assert.equal(chooseVictim([a, b, c], b), a);
    assert.equal(chooseVictim([a], a), undefined);
  });
});
