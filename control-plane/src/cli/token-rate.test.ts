import assert from 'node:assert/strict';
import { TokenRate } from './token-rate.js';

describe('TokenRate', () => {
  it('counts decoding from the first token on', () => {
    const rate = new TokenRate(1000);
    rate.add(1, 3000);
    rate.add(0, 3100);
    rate.add(4, 3500);
    assert.deepEqual(rate.summary(), { tokens: 5, firstTokenSeconds: 2, tokensPerSecond: 8 });
  });

  it('claims no rate for one token or none', () => {
    const rate = new TokenRate(0);
    assert.deepEqual(rate.summary(), { tokens: 0, firstTokenSeconds: undefined, tokensPerSecond: undefined });
    rate.add(1, 500);
    assert.deepEqual(rate.summary(), { tokens: 1, firstTokenSeconds: 0.5, tokensPerSecond: undefined });
  });
});
