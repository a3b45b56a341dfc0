import assert from 'node:assert/strict';
import { parseEnd, parseLimit } from './key.js';

describe('spotlight key', () => {
  it('reads limits, and none for no limit', () => {
    assert.equal(parseLimit('600'), 600);
    assert.equal(parseLimit('none'), null);
    for (const text of ['0', '-1', '1.5', '', 'many', '99999999999999999']) {
      assert.throws(() => parseLimit(text), /whole number from 1 on, or none/, text);
    }
  });

  it('reads when a key ends: a span, a date, or never', () => {
    const now = Date.UTC(2030, 0, 1);
    assert.equal(parseEnd('90m', now), '2030-01-01T01:30:00.000Z');
    assert.equal(parseEnd('30d', now), '2030-01-31T00:00:00.000Z');
    assert.equal(parseEnd('2030-02-01', now), '2030-02-01T00:00:00.000Z');
    assert.equal(parseEnd('never', now), null);
    for (const text of ['0d', '5y', '2029-12-31', 'soon', '99999999999999d']) {
      assert.throws(() => parseEnd(text, now), /a date to come, or never/, text);
    }
  });
});
