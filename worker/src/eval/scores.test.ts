import assert from 'node:assert/strict';
import { commonSubsequence, editDistance, f1, normalized } from './scores.js';
import { agreement } from './tasks/fidelity.js';

const letters = (word: string): string[] => Array.from(word);
describe('scores', () => {
  it('normalises as SQuAD does', () => {
    assert.equal(normalized('The  cat, a "hat"\nand an apple!'), 'cat hat and apple');
    assert.equal(normalized('Athens and anthem'), 'athens and anthem');
  });

  it('gives F1 over the words both have, each as often as both have it', () => {
    assert.equal(f1('the cat sat', 'a cat sat'), 1);
    // 2 of 3 predicted, 2 of 4 wanted.
    assert.equal(f1('red red fox', 'red fox jumped high'), (2 * 2) / 7);
    assert.equal(f1('nothing alike', 'something else'), 0);
    assert.equal(f1('', ''), 0);
  });

  it('finds the longest common subsequence and the edit distance', () => {
    assert.equal(commonSubsequence(letters('ABCBDAB'), letters('BDCABA')), 4);
    assert.equal(commonSubsequence([], [1]), 0);
    assert.equal(editDistance(letters('kitten'), letters('sitting')), 3);
    assert.equal(editDistance([1, 2, 3], []), 3);
    assert.equal(editDistance([], [1, 2]), 2);
    assert.equal(editDistance([1, 2, 3], [1, 2, 3]), 0);
  });

  it('measures agreement as the reference does: the mean of precision both ways over words', () => {
    assert.equal(agreement('Hello, World again', 'hello world'), (2 / 3 + 2 / 2) / 2);
    assert.equal(agreement('', ''), 1);
    assert.equal(agreement('', 'x'), 0);
  });
});
