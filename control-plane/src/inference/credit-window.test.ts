import assert from 'node:assert/strict';
import { CREDIT_WINDOW, CreditWindow } from './credit-window.js';

describe('CreditWindow', () => {
  it('grants in halves while the client reads, so the worker never runs dry', () => {
    const grants: number[] = [];
    const window = new CreditWindow((steps) => grants.push(steps));
    for (let step = 0; step < CREDIT_WINDOW * 2; step++) window.consumed(true);
    assert.deepEqual(grants, [CREDIT_WINDOW / 2, CREDIT_WINDOW / 2, CREDIT_WINDOW / 2, CREDIT_WINDOW / 2]);
  });

  it('keeps credits back while the client does not read, and gives them all when it does', () => {
    const grants: number[] = [];
    const window = new CreditWindow((steps) => grants.push(steps));
    for (let step = 0; step < CREDIT_WINDOW; step++) window.consumed(false);
    assert.deepEqual(grants, []);
    window.release();
    window.release();
    assert.deepEqual(grants, [CREDIT_WINDOW]);
  });
});
