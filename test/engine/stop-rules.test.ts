// Stop rules against an oracle that searches the whole text anew after every token (reference.ts), on random tokens
// whose pieces overlap and split code points.
import assert from 'node:assert/strict';
import { FinishReason } from '@spotlight/proto';
import { StopRules } from '@spotlight/worker/engine/stop-rules.js';
import { FakeTexts } from '../fakes/texts.js';
import { Dice } from './dice.js';
import { naiveEnd } from './reference.js';

const VOCAB = 96;
const STOPS = [
  'a',
  'ab',
  'aba',
  'abab',
  'bb.',
  'the a',
  '🙂',
  'é',
  ' ',
  'c c',
  'abc\n',
  'aab',
  'xyz',
  '日日',
  'ba b',
];

describe('stop rules against a search of the whole text', function () {
  this.timeout(60_000);

  it('agree on text, end and reason for 5,000 random choices', () => {
    const texts = new FakeTexts(VOCAB, [3, 40]);
    const ends = { string: 0, token: 0, length: 0 };
    for (let seed = 0; seed < 5000; seed++) {
      const dice = new Dice(seed);
      const sampling = {
        stop: Array.from({ length: dice.int(0, 3) }, () => dice.pick(STOPS)),
        stopTokenIds: new Set(dice.chance(0.3) ? [dice.int(0, VOCAB - 1)] : []),
        ignoreEos: dice.chance(0.5),
        minTokens: dice.chance(0.3) ? dice.int(0, 10) : 0,
        maxTokens: dice.int(1, 40),
      };
      const endTokenIds = sampling.ignoreEos ? new Set<number>() : texts.stopTokenIds;
      const rules = new StopRules({ ...sampling, endTokenIds }, texts.openStream({ skipSpecial: true }));
      const tokens: number[] = [];
      let text = '';
      let expected: ReturnType<typeof naiveEnd>;
      while (expected === undefined) {
        assert.equal(rules.finish, FinishReason.UNSPECIFIED, `seed ${seed}: ended early`);
        tokens.push(dice.int(0, VOCAB - 1));
        text += rules.accept(tokens.at(-1) ?? 0);
        expected = naiveEnd(tokens, sampling, texts);
      }
      assert.deepEqual({ text, finish: rules.finish, stop: rules.reason?.value }, expected, `seed ${seed}`);
      if (expected.finish === FinishReason.LENGTH) ends.length++;
      else if (typeof expected.stop === 'string') ends.string++;
      else ends.token++;
    }
    assert(Math.min(ends.string, ends.token, ends.length) > 400, JSON.stringify(ends));
  });
});
