import assert from 'node:assert/strict';
import { measureOf, rougeLOfSentences, scoreAnswer } from './longbench.js';

const answered = (dataset: string, answers: string[], classes: string[] = []) => ({
  dataset,
  answers,
  classes,
});

// What the packages rouge 1.0.1 and fuzzywuzzy 0.18.0 (on difflib) give, which LongBench's scripts call.
const ROUGE: readonly (readonly [prediction: string, truth: string, f: number])[] = [
  ['in agencies audit. the now. ', 'because spent must found that gaps spent. the\n', 0.1538461488757398],
  ['funds funds the the not. ', 'not found not. were. not must time. the. ', 0.5454545408264463],
  [
    'says time. agencies time because. and were because because. were. report in.',
    'that spent. now agencies audit agencies audit in now that gaps agencies. time. report act\n',
    0.4444444395061729,
  ],
  [
    'were. report says. found must report. spent agencies in now act. funds\n',
    'agencies funds report. act time funds now were audit now because and because in. time. ',
    0.434782603705104,
  ],
  [
    'gaps report time agencies found in because in time and were gaps the because found in and in now time. audit agencies agencies in agencies act agencies. were now agencies',
    'funds that and were. because not found report act now agencies must says. gaps. not spent agencies the agencies must in act that found agencies report found time that time found audit and. ',
    0.6666666618916438,
  ],
  [
    'because in act the and time because time funds. because. the that now spent time. report funds must the. because. found found in. spent because report spent because in funds\n',
    'must because must not time. now says time the act gaps. time because time. funds were because found because. and. found funds. act. gaps found report says. spent in says says the and. ',
    0.7999999950888891,
  ],
];
const CODE: readonly (readonly [prediction: string, answer: string, ratio: number])[] = [
  ['return self.name', 'return self._name', 0.97],
  ['    x = foo(a, b)', 'x = foo(b, a)', 0.73],
  ['for i in range(10):', 'while True:', 0.2],
  ['abcabcabc', 'bcabca', 0.8],
  [
    'self.assertEqual(value_0,value_1,value_2,value_3,value_4,value_5,value_6,value_7,value_8,value_9,value_10,value_11,value_12,value_13,value_14,value_15,value_16,value_17,value_18,value_19,value_20,value_21,value_22,value_23,value_24,value_25,value_26,value_27,value_28,value_29,value_30,value_31,value_32,value_33,value_34,value_35,value_36,value_37,value_38,value_39)',
    'self.assertEqual(val_3,val_4,val_5,val_6,val_7,val_8,val_9,val_10,val_11,val_12,val_13,val_14,val_15,val_16,val_17,val_18,val_19,val_20,val_21,val_22,val_23,val_24,val_25,val_26,val_27,val_28,val_29,val_30,val_31,val_32,val_33,val_34,val_35,val_36,val_37,val_38,val_39,val_40,val_41,val_42,val_43)',
    0.06,
  ],
];

describe('LongBench’s measures', () => {
  it('scores by the measure of the data set, the best answer counting', () => {
    assert.equal(measureOf('hotpotqa'), 'f1');
    assert.equal(measureOf('gov_report_e'), 'rouge-l');
    assert.equal(scoreAnswer('Paris, France', answered('hotpotqa', ['London', 'Paris France'])), 1);
    assert.equal(scoreAnswer('Paris\nLondon', answered('triviaqa', ['Paris'])), 1);
    assert.equal(scoreAnswer('\nParis\nLondon', answered('narrativeqa', ['Paris'])), 2 / 3);
    assert(Math.abs(scoreAnswer('a b c', answered('gov_report', ['a x c'])) - 4 / 6) < 1e-7);
    assert.equal(measureOf('lcc_e'), 'code similarity');
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

  it('give ROUGE-L as its package does, and nothing for an empty answer', () => {
    for (const [prediction, truth, f] of ROUGE)
      assert(Math.abs(rougeLOfSentences(prediction, truth) - f) < 1e-12, prediction);
    assert.equal(rougeLOfSentences('', 'a'), 0);
    assert.equal(rougeLOfSentences('...', 'a'), 0);
  });

  it('compare code as difflib does, the first line without a comment counting', () => {
    for (const [prediction, answer, ratio] of CODE)
      assert.equal(scoreAnswer(prediction, answered('lcc', [answer])), ratio, prediction);
    assert.equal(scoreAnswer('\n# so:\n```\nx = 1\ny', answered('repobench-p', ['x = 1'])), 1);
    assert.equal(scoreAnswer('// nothing', answered('lcc', ['x'])), 0);
  });
});
