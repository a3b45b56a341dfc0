import assert from 'node:assert/strict';
import { FinishReason } from '@spotlight/proto';
import type { TextStream } from './api.js';
import { StopRules } from './stop-rules.js';
import type { StopConfig } from './stop-rules.js';

const PIECES = ['<end>', 'a', 'b', 'ab', 'STO', 'P', '!', 'one STOP two', 'S', 'TOP'];

const stream = (): TextStream => ({ push: (token) => PIECES[token] ?? '', flush: () => '~' });

function run(config: Partial<StopConfig>, tokens: readonly number[]): { texts: string[]; rules: StopRules } {
  const rules = new StopRules(
    {
      stop: [],
      stopTokenIds: new Set(),
      endTokenIds: new Set([0]),
      minTokens: 0,
      maxTokens: 100,
      ...config,
    },
    stream(),
  );
  const texts: string[] = [];
  for (const token of tokens) {
    if (rules.finish !== FinishReason.UNSPECIFIED) break;
    texts.push(rules.accept(token));
  }
  return { texts, rules };
}

describe('StopRules', () => {
  it('lets text out as it comes when nothing can stop it', () => {
    const { texts, rules } = run({}, [1, 2, 3]);
    assert.deepEqual(texts, ['a', 'b', 'ab']);
    assert.equal(rules.finish, FinishReason.UNSPECIFIED);
  });

  it('ends at the end of text without its text and without naming it', () => {
    const { texts, rules } = run({}, [1, 0, 2]);
    assert.deepEqual(texts, ['a', '~']);
    assert.equal(rules.finish, FinishReason.STOP);
    assert.equal(rules.reason, undefined);
  });

  it("ends at a request's own stop token and names it", () => {
    const { rules } = run({ stopTokenIds: new Set([2]) }, [1, 2]);
    assert.deepEqual(rules.reason, { $case: 'stopTokenId', value: 2 });
  });

  it('runs through the end of text under ignore_eos', () => {
    const { texts, rules } = run({ endTokenIds: new Set() }, [1, 0]);
    assert.deepEqual(texts, ['a', '<end>']);
    assert.equal(rules.finish, FinishReason.UNSPECIFIED);
  });

  it('holds back what may be the beginning of a stop string, and drops the match', () => {
    const { texts, rules } = run({ stop: ['STOP'] }, [1, 8, 9]);
    assert.deepEqual(texts, ['a', '', '']);
    assert.deepEqual(rules.reason, { $case: 'stopString', value: 'STOP' });
  });

  it('lets held text out when it turns out to be none', () => {
    const { texts } = run({ stop: ['STOP'] }, [4, 6, 8]);
    assert.deepEqual(texts, ['', 'STO!', '']);
  });

  it('lets held text out at the end', () => {
    const { texts, rules } = run({ stop: ['STOP'], maxTokens: 2 }, [1, 4]);
    assert.deepEqual(texts, ['a', 'STO~']);
    assert.equal(rules.finish, FinishReason.LENGTH);
    assert.deepEqual(run({ stop: ['STOP'] }, [4, 0]).texts, ['', 'STO~']);
  });

  it('cuts inside a token', () => {
    assert.deepEqual(run({ stop: ['STOP'] }, [7]).texts, ['one ']);
  });

  it('takes the match that begins first, and the first named of two at one place', () => {
    assert.deepEqual(run({ stop: ['two', 'STOP'] }, [7]).rules.reason, {
      $case: 'stopString',
      value: 'STOP',
    });
    assert.deepEqual(run({ stop: ['ST', 'STO'] }, [4]).rules.reason, { $case: 'stopString', value: 'ST' });
  });

  it('keeps on through stop tokens and strings before min_tokens', () => {
    const { texts, rules } = run({ stop: ['ab'], minTokens: 2 }, [3, 0, 3]);
    assert.deepEqual(texts, ['ab', '<end>', '']);
    assert.equal(rules.finish, FinishReason.STOP);
  });

  it('does not take up a match again that ended before min_tokens', () => {
    const { texts, rules } = run({ stop: ['ab', 'abc'], minTokens: 1 }, [3, 6]);
    assert.deepEqual(texts, ['', 'ab!']);
    assert.equal(rules.finish, FinishReason.UNSPECIFIED);
  });
});
