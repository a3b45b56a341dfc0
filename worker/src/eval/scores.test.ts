import assert from 'node:assert/strict';
import { commonSubsequence, editDistance, f1, measureOf, normalized, rougeL, scoreAnswer } from './scores.js';
import { agreement } from './tasks/fidelity.js';

const letters = (word: string): string[] => Array.from(word);
const answered = (dataset: string, answers: string[], classes: string[] = []) => ({
  dataset,
  answers,
  classes,
});

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
    assert.equal(rougeL(letters('ABCBDAB'), letters('BDCABA')), 8 / 13);
    assert.equal(rougeL([], []), 1);
    assert.equal(editDistance(letters('kitten'), letters('sitting')), 3);
    assert.equal(editDistance([1, 2, 3], []), 3);
    assert.equal(editDistance([], [1, 2]), 2);
    assert.equal(editDistance([1, 2, 3], [1, 2, 3]), 0);
  });

  it('scores by the measure of the data set, the best answer counting', () => {
    assert.equal(measureOf('hotpotqa'), 'f1');
    assert.equal(measureOf('gov_report_e'), 'rouge-l');
    assert.equal(scoreAnswer('Paris, France', answered('hotpotqa', ['London', 'Paris France'])), 1);
    assert.equal(scoreAnswer('Paris\nLondon', answered('triviaqa', ['Paris'])), 1);
    assert.equal(scoreAnswer('\nParis\nLondon', answered('narrativeqa', ['Paris'])), 2 / 3);
    assert.equal(scoreAnswer('a b c', answered('gov_report', ['a x c'])), 4 / 6);
  });

  it('shares a classification among the classes named, but for those within the right one', () => {
    const classes = ['Food', 'Other Food', 'Animal'];
    assert.equal(scoreAnswer('Other Food', answered('trec', ['Other Food'], classes)), 1);
    assert.equal(scoreAnswer('Animal or Food', answered('trec', ['Food'], classes)), 1 / 2);
    assert.equal(scoreAnswer('Animal', answered('trec', ['Food'], classes)), 0);
  });

  it('counts numbers for retrieval', () => {
    assert.equal(scoreAnswer('Paragraph 7', answered('passage_retrieval_en', ['Paragraph 7'])), 1);
    assert.equal(scoreAnswer('7 or 9', answered('passage_retrieval_en', ['Paragraph 7'])), 1 / 2);
    assert.equal(scoreAnswer('12', answered('passage_count', ['12'])), 1);
    assert.equal(scoreAnswer('none', answered('passage_count', ['12'])), 0);
  });

  it('measures agreement as the reference does: the mean of precision both ways over words', () => {
    assert.equal(agreement('Hello, World again', 'hello world'), (2 / 3 + 2 / 2) / 2);
    assert.equal(agreement('', ''), 1);
    assert.equal(agreement('', 'x'), 0);
  });
});
