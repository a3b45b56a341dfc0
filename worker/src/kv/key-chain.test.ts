import assert from 'node:assert/strict';
import { KeyChain } from './key-chain.js';
import { blockKey } from './prefix-cache.js';

const tokens = Array.from({ length: 256 }, (_, i) => i * 3);
const chain = (salt: string | undefined, boundary: number, change?: number): KeyChain =>
  new KeyChain((position) => (position === change ? 9999 : (tokens[position] ?? 0)), salt, boundary);
const keys = (of: KeyChain): string[] => [0, 1, 2, 3].map((index) => of.key(index));

describe('KeyChain', () => {
  it('depends on every token up to the end of the block, and on nothing after', () => {
    const plain = keys(chain(undefined, 256));
    assert.equal(new Set(plain).size, 4);
    const changed = keys(chain(undefined, 256, 70));
    assert.equal(changed[0], plain[0]);
    for (const index of [1, 2, 3]) assert.notEqual(changed[index], plain[index]);
  });

  it('takes the salt from the block on that holds the first generated token', () => {
    const plain = keys(chain('x', 256));
    assert.deepEqual(plain, keys(chain(undefined, 0)), 'a prompt alone has no salt');
    for (const [boundary, from] of [
      [0, 0],
      [1, 0],
      [63, 0],
      [64, 1],
      [127, 1],
      [192, 3],
    ] as const) {
      const salted = keys(chain('x', boundary));
      plain.forEach((key, index) => {
        assert.equal(salted[index] === key, index < from, `boundary ${boundary}, block ${index}`);
      });
    }
  });

  it('tells salts and boundaries apart', () => {
    const last = [
      [undefined, 100],
      ['x', 100],
      ['y', 100],
      ['x', 101],
      ['x', 64],
    ] as const;
    assert.equal(new Set(last.map(([salt, boundary]) => chain(salt, boundary).key(3))).size, last.length);
  });

  it('continues from keys another choice computed', () => {
    const whole = chain('x', 100);
    const expected = keys(whole);
    const asked: number[] = [];
    const token = (position: number): number => {
      asked.push(position);
      return tokens[position] ?? 0;
    };
    const forked = new KeyChain(token, 'x', 100, whole.computed(2));
    assert.equal(forked.key(3), expected[3]);
    assert.equal(Math.min(...asked), 128);
  });
});

describe('blockKey', () => {
  it('depends on the parent, and is 32 bytes', () => {
    const token = (offset: number): number => offset;
    assert.notEqual(blockKey('', token), blockKey('\u0001', token));
    assert.equal(blockKey('', token), blockKey('', token));
    assert.equal(blockKey('', token).length, 32);
  });
});
