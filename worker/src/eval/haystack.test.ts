import assert from 'node:assert/strict';
import { isFound, layOut, makeHaystack, NEEDLES } from './haystack.js';
import { Random } from './random.js';

describe('needles in haystacks', () => {
  it('are the same from the same seed, and others from another', () => {
    for (const kind of NEEDLES) {
      assert.deepEqual(makeHaystack(kind, '1', 50), makeHaystack(kind, '1', 50));
      assert.notEqual(makeHaystack(kind, '1', 50).answer, makeHaystack(kind, '2', 50).answer);
    }
    // Held, so that published figures stay reproducible.
    assert.equal(makeHaystack('single', '1 1024 0 0', 1).answer, '3399545');
  });

  it('hold the answer once, at its depth, and nowhere in the question', () => {
    for (const kind of NEEDLES)
      for (const depth of [0, 0.25, 0.5, 1]) {
        const haystack = makeHaystack(kind, `seed ${depth}`, 40);
        const text = layOut(haystack, 40, depth);
        assert.equal(text.split(haystack.answer).length, 2);
        assert(!haystack.question.includes(haystack.answer));
        const share = text.indexOf(haystack.fact) / (text.length - haystack.fact.length);
        assert(Math.abs(share - depth) < 0.15, `${kind} at ${depth} is at ${share}`);
        assert.equal(haystack.others.length, kind === 'single' ? 0 : 3);
        for (const other of haystack.others) assert(text.includes(other));
        assert(haystack.others.every((other) => !other.includes(haystack.answer)));
      }
  });

  it('keep the facts when the filler is cut', () => {
    const haystack = makeHaystack('multi-key', '3', 40);
    for (const count of [0, 1, 7]) {
      const text = layOut(haystack, count, 1);
      for (const fact of [haystack.fact, ...haystack.others]) assert(text.includes(fact));
      assert.equal(text.split(haystack.filler[39] ?? '').length, count > 39 ? 2 : 1);
    }
  });

  it('are found when the first secret of the continuation is theirs', () => {
    assert(isFound(' 1234567. The', '1234567'));
    assert(!isFound(' 7654321, not 1234567', '1234567'));
    assert(!isFound(' 12345678', '1234567'));
    assert(!isFound(' I do not know', '1234567'));
    assert(isFound(' 0A1b2c3d-1111-4222-a333-444455556666.', '0a1b2c3d-1111-4222-a333-444455556666'));
  });
});

describe('Random', () => {
  it('is even enough and within its range', () => {
    const random = new Random('x');
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) counts[random.integer(4)]! += 1;
    for (const count of counts) assert(Math.abs(count - 1000) < 120, String(counts));
    assert.throws(() => random.pick([]), RangeError);
  });
});
