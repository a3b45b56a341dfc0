// The property that matters: whatever the ids, streamed pieces joined are the text of all bytes decoded at once,
// and no piece ends inside a code point that the next one completes.
import assert from 'node:assert/strict';
import { incompleteSuffix } from './detokenizer.js';
import { definitionFromGguf } from './from-gguf.js';
import { byteLevelMetadata } from './small-vocabulary.js';
import { Tokenizer } from './tokenizer.js';

/** xorshift32: the same ids every run. */
function randomIds(seed: number, count: number, pick: (draw: number) => number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return pick(state >>> 0);
  });
}

describe('detokenizer', () => {
  let tokenizer: Tokenizer;
  before(async () => {
    tokenizer = await Tokenizer.create(definitionFromGguf(byteLevelMetadata(), 'test.gguf'));
  });

  function check(ids: readonly number[]): void {
    const stream = tokenizer.openStream({ skipSpecial: false });
    const pieces = ids.map((id) => stream.push(id));
    pieces.push(stream.flush());
    // Buffer's decoder is V8's own, not the one under test.
    const whole = Buffer.concat(ids.map((id) => tokenizer.bytes(id))).toString('utf8');
    assert.equal(pieces.join(''), whole);
  }

  it('streams random bytes as the whole text, invalid ones included', () => {
    const likely = [
      0xc3, 0xa9, 0xe6, 0x97, 0xa5, 0xed, 0xa0, 0xf0, 0x9f, 0x99, 0x82, 0xf4, 0x90, 0xe0, 0x80, 0xc0, 0xff,
      97,
    ];
    for (let seed = 1; seed <= 300; seed++) {
      check(randomIds(seed, 60, (draw) => draw % 262));
      check(randomIds(seed * 7919, 60, (draw) => likely[draw % likely.length]!));
    }
  });

  it('streams emoji, CJK and combining text byte by byte without splitting a code point', () => {
    const text = '🙂👩‍👩‍👧 日本語 한국어 é e\u0301 \ufeff \u{10ffff}';
    const stream = tokenizer.openStream();
    let joined = '';
    for (const byte of Buffer.from(text)) {
      const piece = stream.push(byte);
      assert.doesNotMatch(piece, /[\ud800-\udfff]|\ufffd/u);
      joined += piece;
    }
    assert.equal(joined + stream.flush(), text);
  });

  it('gives U+FFFD for a code point cut off at the end, once', () => {
    const stream = tokenizer.openStream();
    assert.equal([0xf0, 0x9f, 0x99].map((id) => stream.push(id)).join(''), '');
    assert.equal(stream.flush(), '\ufffd');
    assert.equal(stream.flush(), '');
  });

  it('leaves special tokens out unless asked, and never user-defined ones', () => {
    const run = (skipSpecial: boolean): string => {
      const stream = tokenizer.openStream({ skipSpecial });
      return [97, 260, 261, 98].map((id) => stream.push(id)).join('') + stream.flush();
    };
    assert.equal(run(true), 'a<tool>b');
    assert.equal(run(false), 'a<|end|><tool>b');
  });

  it('gives no text for ids beyond the vocabulary', () => {
    const stream = tokenizer.openStream();
    assert.equal(stream.push(99_999) + stream.push(97), 'a');
  });
});

describe('incompleteSuffix', () => {
  const of = (...bytes: number[]): number => incompleteSuffix(Uint8Array.from(bytes));
  it('holds back only what may still become a code point', () => {
    assert.equal(of(), 0);
    assert.equal(of(0x61, 0xc3), 1);
    assert.equal(of(0xe6, 0x97), 2);
    assert.equal(of(0xf0, 0x9f, 0x99), 3);
    assert.equal(of(0xf0, 0x9f, 0x99, 0x82), 0);
    assert.equal(of(0x80, 0x80, 0x80, 0x80), 0);
    assert.equal(of(0xe0, 0x80), 0, 'overlong');
    assert.equal(of(0xed, 0xa0), 0, 'surrogate');
    assert.equal(of(0xf4, 0x90), 0, 'above U+10FFFF');
    assert.equal(of(0xc0), 0, 'never a lead');
  });
});
